--- Recurrent layers: GRU and LSTM, and their cells, which are a step. Weights, their order of gates and their names are
-- PyTorch's, so that a state_dict carries over.
local arguments = require "fp8.nn.arguments"
local core = require "fp8.core"
local dropout = require "fp8.ops.dropout"
local join = require "fp8.ops.join"
local Module = require "fp8.nn.module"
local parameters = require "fp8.nn.recurrent.parameters"
local recurrence = require "fp8.nn.recurrent.recurrence"
local view = require "fp8.ops.view"

local layer_options = {
  num_layers = "number", batch_first = "boolean", dropout = "number", bidirectional = "boolean",
}

local function suffix_of(layer, direction)
  return ("_l%d%s"):format(layer - 1, direction == 2 and "_reverse" or "")
end

local most_layers = 1024

local function init_layers(self, input_size, hidden_size, options)
  local name = self.class_name
  options = parameters.read(self, input_size, hidden_size, options, layer_options)
  self.num_layers, self.dropout = options.num_layers or 1, options.dropout or 0
  self.batch_first, self.directions = options.batch_first or false, options.bidirectional and 2 or 1
  arguments.check_size(name, "option num_layers", self.num_layers)
  if self.num_layers > most_layers then
    core.raise(("%s: option num_layers must be at most %d, got %.14g"):format(name, most_layers, self.num_layers))
  end
  arguments.check_probability(name, "option dropout", self.dropout)
  for layer = 1, self.num_layers do
    for direction = 1, self.directions do
      parameters.add(self, self.gates, layer == 1 and input_size or self.directions * hidden_size,
        suffix_of(layer, direction), options)
    end
  end
end

-- One direction of a layer: its outputs, last hidden state and, of an LSTM, last cell.
local function run_direction(self, x, layer, direction, hidden, cell)
  local suffix, index = suffix_of(layer, direction), (layer - 1) * self.directions + direction
  local gates = parameters.gates(self, x, suffix)
  local output, last, last_cell = recurrence(gates, self["weight_hh" .. suffix], self["bias_hh" .. suffix],
    view.select(hidden, 1, index), cell and view.select(cell, 1, index), direction == 2)
  core.free(gates)
  return output, last, last_cell
end

-- All layers, of x (steps, rows, features) and states (layers · directions, rows, hidden).
local function run(self, x, hidden, cell)
  local last_hidden, last_cells = {}, {}
  for layer = 1, self.num_layers do
    local outputs = {}
    for direction = 1, self.directions do
      local output, last, last_cell = run_direction(self, x, layer, direction, hidden, cell)
      outputs[direction], last_hidden[#last_hidden + 1], last_cells[#last_cells + 1] = output, last, last_cell
    end
    x = self.directions == 1 and outputs[1] or join.cat(outputs, 3)
    if self.training and self.dropout > 0 and layer < self.num_layers then x = dropout(x, self.dropout) end
  end
  return x, join.stack(last_hidden, 1), cell and join.stack(last_cells, 1)
end

-- The input as (steps, rows, features), and functions that bring the output and a state back to its form; and the shape
-- of a state.
local function forward(self, x, hidden, cell, is_lstm)
  local expected = self.batch_first and "(batch, steps, features) or (steps, features)" or
    "(steps, batch, features) or (steps, features)"
  local shape = parameters.check_input(self, x, 2, 3, expected)
  local single, states = #shape == 2, self.num_layers * self.directions
  local swapped = self.batch_first and not single
  local steps, rows = shape[swapped and 2 or 1], single and 1 or shape[swapped and 1 or 2]
  if steps == 0 then core.raise(self.class_name .. ": at least one step is needed, got none") end
  local state_shape = single and {states, self.hidden_size} or {states, rows, self.hidden_size}
  hidden = parameters.state(self, "the hidden state", hidden, state_shape, x)
  if is_lstm then cell = parameters.state(self, "the cell", cell, state_shape, x) end
  if single then
    x, hidden, cell = view.unsqueeze(x, 2), view.unsqueeze(hidden, 2), cell and view.unsqueeze(cell, 2)
  elseif swapped then
    x = view.transpose(x, 1, 2)
  end
  local y, last, last_cell = run(self, x, hidden, cell)
  if single then
    return view.squeeze(y, 2), view.squeeze(last, 2), last_cell and view.squeeze(last_cell, 2)
  elseif swapped then
    y = view.transpose(y, 1, 2)
  end
  return y, last, last_cell
end

local function description(self)
  local text = ("%d, %d"):format(self.input_size, self.hidden_size)
  if self.num_layers > 1 then text = ("%s, num_layers = %d"):format(text, self.num_layers) end
  if not self.has_bias then text = text .. ", bias = false" end
  if self.batch_first then text = text .. ", batch_first" end
  if self.dropout > 0 then text = ("%s, dropout = %g"):format(text, self.dropout) end
  if self.directions == 2 then text = text .. ", bidirectional" end
  return text
end

local GRU = Module:extend("GRU")
GRU.gates, GRU.unsearched = 3, parameters.unsearched

--- fp8.nn.GRU(input_size, hidden_size [, options]): Cho et al., "Learning phrase representations using RNN
-- encoder-decoder" (2014), with the reset gate on the hidden state's product, as PyTorch and cuDNN have it.
--
-- Parameters weight_ih_l0 (3 · hidden_size, input_size), weight_hh_l0 (3 · hidden_size, hidden_size), bias_ih_l0 and
-- bias_hh_l0, of the gates r, z and n one below the other; l1 and so on of further layers, with _reverse at the end
-- those of the other direction. They start uniform in ±1 / √hidden_size. The products of the inputs are one for all
-- steps.
--
--   local gru = fp8.nn.GRU(8, 16, {batch_first = true})
--   local outputs, last = gru(fp8.randn(2, 5, 8))           -- (2, 5, 16) and (1, 2, 16)
--   outputs, last = gru(fp8.randn(2, 3, 8), last)           -- goes on from there
--   last.shape --> {1, 2, 16}
-- @param options
--   num_layers    up to 1024 (1)
--   bias          whether there is one (true)
--   batch_first   whether the input is (batch, steps, features), not (steps, batch, features) (false)
--   dropout       of the outputs of all layers but the last, in training (0)
--   bidirectional whether each layer has another one that begins with the last step (false)
--   recipe        of the products of the inputs, as Linear takes it: a table, or a name in fp8.recipes; those of the
--                 hidden states are plain (none)
--   dtype, device
function GRU:init(input_size, hidden_size, options) init_layers(self, input_size, hidden_size, options) end

--- @param x      (steps, batch, input_size), (batch, steps, input_size) with batch_first, or (steps, input_size)
-- @param hidden (num_layers · directions, batch, hidden_size), the states before the first step, or nil for zeros;
--   without batch where x has none
-- @return the last layer's hidden states, as x with hidden_size features, or twice as many of both directions; and the
--   states after the last step
function GRU:forward(x, hidden, ...)
  arguments.check_one(self, "an input and a hidden state", nil, ...)
  local y, last = forward(self, x, hidden, nil, false)
  return y, last
end

GRU.description = description

local LSTM = Module:extend("LSTM")
LSTM.gates, LSTM.unsearched = 4, parameters.unsearched

--- fp8.nn.LSTM(input_size, hidden_size [, options]): Hochreiter and Schmidhuber, "Long short-term memory" (1997), with
-- forget gates. Parameters are as GRU's, of the gates i, f, g and o: 4 · hidden_size. Options are those of GRU.
--   fp8.nn.LSTM(8, 16)(fp8.randn(5, 2, 8)).shape --> {5, 2, 16}
function LSTM:init(input_size, hidden_size, options) init_layers(self, input_size, hidden_size, options) end

--- @param x      as GRU's
-- @param states {hidden, cell}, each as GRU's hidden state, or nil for zeros
-- @return the outputs, as GRU's; and {hidden, cell} after the last step
function LSTM:forward(x, states, ...)
  arguments.check_one(self, "an input and a list of two states", nil, ...)
  local hidden, cell = parameters.pair(self, states)
  local y, last, last_cell = forward(self, x, hidden, cell, true)
  return y, {last, last_cell}
end

LSTM.description = description

-- One step of x (batch, input_size) or (input_size).
local function step(self, x, hidden, cell, is_lstm)
  local shape = parameters.check_input(self, x, 1, 2, "(batch, features) or (features)")
  local single = #shape == 1
  local state_shape = single and {self.hidden_size} or {shape[1], self.hidden_size}
  hidden = parameters.state(self, "the hidden state", hidden, state_shape, x)
  if is_lstm then cell = parameters.state(self, "the cell", cell, state_shape, x) end
  if single then
    x, hidden, cell = view.unsqueeze(x, 1), view.unsqueeze(hidden, 1), cell and view.unsqueeze(cell, 1)
  end
  local gates = view.unsqueeze(parameters.gates(self, x, ""), 1)
  local _, last, last_cell = recurrence(gates, self.weight_hh, self.bias_hh, hidden, cell, false)
  if single then last, last_cell = view.squeeze(last, 1), last_cell and view.squeeze(last_cell, 1) end
  return last, last_cell
end

local function init_cell(self, input_size, hidden_size, options)
  options = parameters.read(self, input_size, hidden_size, options, {})
  parameters.add(self, self.gates, input_size, "", options)
end

local function cell_description(self)
  return ("%d, %d%s"):format(self.input_size, self.hidden_size, self.has_bias and "" or ", bias = false")
end

local GRUCell = Module:extend("GRUCell")
GRUCell.gates, GRUCell.unsearched = 3, parameters.unsearched

--- fp8.nn.GRUCell(input_size, hidden_size [, {bias = true, recipe =, dtype =, device =}]): a step of a GRU. Parameters
-- weight_ih, weight_hh, bias_ih and bias_hh.
--   fp8.nn.GRUCell(8, 16)(fp8.randn(2, 8)).shape --> {2, 16}
function GRUCell:init(input_size, hidden_size, options)
  init_cell(self, input_size, hidden_size, options)
end

--- @param x      (batch, input_size), or (input_size)
-- @param hidden (batch, hidden_size), or nil for zeros
-- @return the hidden state after the step
function GRUCell:forward(x, hidden, ...)
  arguments.check_one(self, "an input and a hidden state", nil, ...)
  return (step(self, x, hidden, nil, false))
end

GRUCell.description = cell_description

local LSTMCell = Module:extend("LSTMCell")
LSTMCell.gates, LSTMCell.unsearched = 4, parameters.unsearched

--- fp8.nn.LSTMCell(input_size, hidden_size [, {bias = true, recipe =, dtype =, device =}]): a step of an LSTM.
--   local lstm = fp8.nn.LSTMCell(8, 16)
--   local hidden, cell = lstm(fp8.randn(2, 8))
--   hidden, cell = lstm(fp8.randn(2, 8), {hidden, cell})
--   cell.shape --> {2, 16}
function LSTMCell:init(input_size, hidden_size, options)
  init_cell(self, input_size, hidden_size, options)
end

--- @param x      (batch, input_size), or (input_size)
-- @param states {hidden, cell}, each (batch, hidden_size), or nil for zeros
-- @return the hidden state and the cell after the step
function LSTMCell:forward(x, states, ...)
  arguments.check_one(self, "an input and a list of two states", nil, ...)
  local hidden, cell = parameters.pair(self, states)
  return step(self, x, hidden, cell, true)
end

LSTMCell.description = cell_description

return {GRU = GRU, LSTM = LSTM, GRUCell = GRUCell, LSTMCell = LSTMCell}
