--- What sees the calls of modules: while `observer` is not false, calling any module calls observer(module, …), in
-- place of module:forward(…), and returns what it returns.
return {observer = false}
