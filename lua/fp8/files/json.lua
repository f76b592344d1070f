--- JSON: lua-cjson's decoder, and strings written without its encoder, since that ends the process where memory is
-- short, and keeps a buffer of up to twelve times the longest string.
local cjson = require "fp8.files.package" "cjson"
local ffi = require "ffi"

ffi.cdef [[
void *malloc(size_t size);
void free(void *address);
]]

local C = ffi.C

local json = {null = cjson.null, no_memory = "not enough memory"} -- the latter as Lua says it

local escapes = {}
for code = 0, 127 do escapes[string.char(code)] = ("\\u%04x"):format(code) end
for character, escaped in pairs {['"'] = '\\"', ["\\"] = "\\\\", ["\n"] = "\\n", ["\r"] = "\\r", ["\t"] = "\\t"} do
  escapes[character] = escaped
end

--- The JSON of a string, which is UTF-8.
function json.encode_string(text) return '"' .. text:gsub('[%c"\\]', escapes) .. '"' end

--- A function that gives the value of a JSON text, or nil and what is wrong with it; an error where something else is.
-- @param deepest how many lists and objects may be in one another
function json.decoder(deepest)
  -- Settings of its own: another user of cjson may have changed the shared ones.
  local decoder = cjson.new()
  decoder.decode_invalid_numbers(false)
  decoder.decode_max_depth(deepest)
  return function(text)
    -- The decoder begins with a buffer for the longest string possible, and ends the process if it can't have that.
    local buffer = C.malloc(#text + 4096)
    if buffer == nil then error(json.no_memory, 0) end
    C.free(buffer)
    local ok, value = pcall(decoder.decode, text)
    if ok then return value end
    if type(value) == "string" and value:find "at character %d+$" then return nil, value end
    error(value, 0)
  end
end

return json
