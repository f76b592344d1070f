--- Files, for completion inside of strings.

--- A list of paths that begin with `text`; those of folders end in a slash, hidden ones come only when asked for.
return function(text)
  local folder, start = text:match "^(.*/)([^/]*)$"
  folder, start = folder or "", start or text
  local path = folder:gsub("^~/", (os.getenv "HOME" or "~") .. "/")
  local quoted = "'" .. (path == "" and "." or path):gsub("'", "'\\''") .. "'"
  local pipe = io.popen(("LC_ALL=C ls -1Ap -- %s 2>/dev/null"):format(quoted))
  local list = {}
  for name in pipe:lines() do
    local hidden = name:sub(1, 1) == "." and start:sub(1, 1) ~= "."
    if name:sub(1, #start) == start and not hidden then list[#list + 1] = folder .. name end
  end
  pipe:close()
  return list
end
