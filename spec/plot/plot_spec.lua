-- fp8.plot: charts hold the right numbers, print as text of the right width, and go through gnuplot where that is
-- installed.
local fp8 = require "fp8"
local support = require "spec.support"

local has_gnuplot = os.execute "command -v gnuplot >/dev/null 2>&1" == 0

local directory = support.temporary_directory(setup, teardown)

local function lines_of(text)
  local list = {}
  for line in text:gmatch "[^\n]+" do table.insert(list, line) end
  return list
end

local function length(text) return select(2, text:gsub("[^\128-\191]", "")) end

local function count(text, character) return select(2, text:gsub(character, "")) end

--- The charts that the specs draw, by name.
local function charts()
  fp8.manual_seed(1)
  local x = fp8.randn(4096)
  return {
    line = fp8.plot(fp8.arange(50):mul(0.2):sin(), {title = "a title", x_label = "x", y_label = "y"}),
    points = fp8.plot({1, 10, 100}, {1, 2, 3}, {log = "x", points = true}),
    lines = fp8.plot.lines({first = {1, 2, 3}, ["b_2's `x`"] = {{1, 2.5}, fp8.tensor {3, 1}}}, {log = "y"}),
    map = fp8.plot.map {"e4m3", "e5m2", mine = fp8.create_map(true, 2, 5, 8)},
    error = fp8.plot.error(x, {"e4m3", fp8.create_dynamic_map()}),
    histogram = fp8.plot.histogram(x, {format = "e4m3"}),
  }
end

describe("fp8.plot", function()
  after_each(function() fp8.set_print_options() end)

  it("draws a line from one corner to the other", function()
    local lines = lines_of(tostring(fp8.plot {0, 1, 2, 3}))
    assert.is_truthy(lines[1]:find "⠊$" or lines[1]:find "⠉$" or lines[1]:find "⠁$")
    assert.is_truthy(lines[14]:find "^%s*0 ┤[^%s]")
    local before
    for row = 1, 14 do
      local column = length(lines[row]:match "^.-[┤│]%s*()" and lines[row]:gsub("[^%s]*$", ""))
      assert.is_true(before == nil or column < before, row)
      before = column
    end
  end)

  it("keeps to the width of a line, and labels axes and lines", function()
    for _, width in ipairs {40, 80, 130} do
      fp8.set_print_options {width = width}
      for name, chart in support.sorted_pairs(charts()) do
        for _, line in ipairs(lines_of(tostring(chart))) do
          assert.is_true(length(line) <= math.max(width, 60), ("%s at %d: %s"):format(name, width, line))
        end
      end
    end
    fp8.set_print_options()
    local text = tostring(charts().lines)
    assert.is_truthy(text:find("* b_2's `x`   o first", 1, true))
    assert.is_truthy(tostring(charts().line):find "^%s+a title\ny\n")
  end)

  it("leaves gaps where a number is not finite or has no logarithm", function()
    local whole, gap = tostring(fp8.plot {1, 2, 3, 2, 1}), tostring(fp8.plot {1, 2, 0 / 0, 2, 1})
    assert.is_true(count(gap, "[\226][\160-\163]") < count(whole, "[\226][\160-\163]"))
    assert.is_truthy(tostring(fp8.plot({-1, 0, 1, 10}, {log = "y"})):find("1e0", 1, true))
    assert.is_truthy(tostring(fp8.plot {}):find("┴", 1, true))
    assert.is_truthy(tostring(fp8.plot {5}):find("4 ┤", 1, true))
    assert.is_truthy(tostring(fp8.plot {0 / 0, math.huge}))
  end)

  it("shows every value of a format", function()
    local panels = fp8.plot.map {"e4m3", "e5m2"}.panels
    assert.equal(253, #panels[1].series[1].x)
    assert.equal(247, #panels[1].series[2].x)
    assert.equal(126, #panels[2].series[1].x)
    assert.equal(2 ^ -9 / 448, panels[2].series[1].x[1])
    assert.equal(2 ^ -16 / 57344, panels[2].series[2].x[1])
    assert.equal(1, panels[1].series[1].x[253])
    local map = fp8.plot.map(fp8.create_map(true, 4, 3, 8)).panels[1]
    assert.equal("map(true, 4, 3, 8)", map.names[1])
    assert.equal(256, #map.series[1].x)
  end)

  it("counts exponents", function()
    local chart = fp8.plot.histogram(fp8.tensor {0.5, 0.75, -1, 3, 0, 4}, {format = "e4m3"})
    local panel = chart.panels[1]
    assert.same({-1, 0, 1, 2}, panel.series[1].x)
    assert.same({2, 1, 1, 1}, panel.series[1].y)
    assert.equal("6 elements, 1 zeros, absmax 4", panel.title)
    assert.equal(2, panel.marks[2].x)
    assert.is_true(math.abs(panel.marks[1].x - math.log(4 * 2 ^ -9 / 448) / math.log(2)) < 1e-9)
    assert.is_truthy(tostring(fp8.plot.histogram(fp8.zeros(3))):find("3 zeros", 1, true))
    assert.is_truthy(tostring(fp8.plot.histogram(fp8.tensor {0 / 0, 1, math.huge})):find("1 elements", 1, true))
  end)

  it("has the errors of rounding to a format", function()
    local series = fp8.plot.error(fp8.tensor {1, 0.3}, "e4m3").panels[1].series[1]
    -- 0.3 · 448 = 134.4, of which the neighbours are 128 and 144
    assert.is_true(math.abs(series.y[1] - (128 / 448 - 0.3) / -0.3) < 1e-6)
    assert.equal(0, series.y[2])
    local random = fp8.plot.error(fp8.randn(20000), {"e4m3", "e5m2"}).panels[1].series
    for i, largest in ipairs {2 ^ -4, 2 ^ -3} do
      local top = random[i].y[#random[i].y - 2]
      assert.is_true(top > largest / 4 and top < largest, top)
    end
  end)

  it("reads losses by run", function()
    local path = directory .. "/losses.csv"
    support.write_file(path, "layer,seed,step,loss,rate\nmixed,1,10,2.5,0\nmixed,1,20,2,0\nbf16,1,10,2.25,0\n")
    local panel = fp8.plot.loss(path, {log = "y"}).panels[1]
    assert.equal("log10", panel.y_scale)
    assert.equal("mixed 1", panel.series[1].label)
    assert.same({10, 20}, panel.series[1].x)
    assert.same({2.5, 2}, panel.series[1].y)
    assert.same({2.25}, panel.series[2].y)
    support.fails("has no column accuracy, only layer, seed, step, loss, rate", fp8.plot.loss, path,
      {column = "accuracy"})
    support.fails("plot.loss: " .. directory .. "/none.csv: No such file", fp8.plot.loss, directory .. "/none.csv")
  end)

  it("draws what a watcher has recorded", function()
    fp8.manual_seed(1)
    local model = fp8.nn.Sequential(fp8.LinearMixed(8, 4), fp8.nn.ReLU(), fp8.LinearMixed(4, 2))
    local watcher = fp8.watch(model, {every = 1})
    for _ = 1, 3 do
      model(fp8.randn(16, 8)):sum():backward()
      watcher:step()
    end
    local chart = fp8.plot.watch(watcher)
    assert.equal(2, #chart.panels)
    assert.equal(2, #chart.panels[1].series)
    assert.same({1, 2, 3}, chart.panels[1].series[1].x)
    for _, row in ipairs(watcher:rows()) do
      if row.step == 2 and row.tensor == "input" and row.layer == chart.panels[1].series[1].label then
        assert.equal(row.snr, chart.panels[1].series[1].y[2])
      end
    end
    assert.is_truthy(tostring(fp8.plot.watch(watcher, {tensor = "weight"})):find("weight: signal", 1, true))
    support.fails("nothing is recorded of any quantized bias", fp8.plot.watch, watcher, {tensor = "bias"})
    watcher:close()
  end)

  it("refuses what it can't draw", function()
    support.fails("plot: a tensor or a list of numbers is needed, got number", fp8.plot, 3)
    support.fails("plot: 2 values of x and 3 of y", fp8.plot, {1, 2}, {1, 2, 3})
    support.fails("plot: option log must be x, y or xy, got z", fp8.plot, {1, 2}, {log = "z"})
    support.fails("plot: unknown option titel; did you mean title?", fp8.plot, {1, 2}, {titel = "a"})
    support.fails("plot.lines: at least one series is needed", fp8.plot.lines, {})
    support.fails("plot.map: a format is a map or the name of one of fp8.formats, got e3m4", fp8.plot.map, "e3m4")
    local small = fp8.plot.map {"e2m1", "int4", "nf4"}.panels[2].series[1]
    local values, found = {1 / 12, 1 / 6, 0.25, 1 / 3, 0.5, 2 / 3, 1}, {}
    for _, x in ipairs(small.x) do found[#found + 1] = x end
    for i, value in ipairs(values) do assert.is_near(value, found[i], 1e-7) end
    assert.equal(#values, #found)
    support.fails("plot.histogram: a tensor is needed, got table", fp8.plot.histogram, {1})
    support.fails("plot.watch: a watcher is needed, got table", fp8.plot.watch, {})
    local chart = fp8.plot {1, 2}
    support.fails("save: the path must end in .svg, .png or .pdf, got a.gif", chart.save, chart, "a.gif")
    support.fails("show: window or sixel is needed, got paper", chart.show, chart, "paper")
  end)

  if has_gnuplot then
    it("saves pictures by gnuplot, of which no title runs a command", function()
      for name, chart in support.sorted_pairs(charts()) do
        local path = ("%s/%s.svg"):format(directory, name)
        assert.equal(chart, chart:save(path))
        local text = support.read_file(path)
        assert.is_truthy(text:find("<svg", 1, true))
        assert.is_true(#text > 3000 and #text < 200000, #text)
      end
      local text = support.read_file(directory .. "/lines.svg")
      assert.is_truthy(text:find("b_2's `x`", 1, true) or text:find("b_2&#39;s `x`", 1, true))
      fp8.plot({1, 2}):save(directory .. "/line.png")
      assert.is_truthy(support.read_file(directory .. "/line.png"):find "^\137PNG")
      support.fails("save: gnuplot failed", function() fp8.plot({1, 2}):save(directory .. "/none/a.svg") end)
    end)
  end
end)
