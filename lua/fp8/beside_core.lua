--- Where the other libraries of fp8 are: beside the core.so that is loaded, since another one would bring another core.
-- @param name of the library: "cuda", "distributed"
-- @return its path, whether there is such a file or not; nil if core.so can't be looked up now, for lack of memory, say
return function(name)
  local path = package.searchpath("fp8.core", package.cpath)
  return path and (path:gsub("core(%.%w+)$", name .. "%1"))
end
