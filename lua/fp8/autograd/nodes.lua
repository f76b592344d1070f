--- The nodes of a graph. No recursion: graphs may be of any depth.

local nothing = {}

--- All nodes that lead to `root`, each once, which comes first; nothing beyond those where ends(node) is true.
-- @param ends nil, or a function of a node
-- @return a list of nodes
return function(root, ends)
  local nodes, seen, position = {root}, {[root] = true}, 0
  while position < #nodes do
    position = position + 1
    local node = nodes[position]
    local inputs = not (ends and ends(node)) and node.inputs or nothing
    for _, input in ipairs(inputs) do
      if input and not seen[input] then
        seen[input] = true
        nodes[#nodes + 1] = input
      end
    end
  end
  return nodes
end
