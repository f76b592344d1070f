std = "luajit"
max_line_length = 120
ignore = {"581"} -- not (x <= y) is not x > y where NaN may come
files["spec"] = {std = "+busted"}
