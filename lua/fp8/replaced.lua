--- Parameters that module:to has put others in the place of: what still holds one, such as an optimizer made before,
-- would go on with tensors that no module computes with.
return setmetatable({}, {__mode = "k"})
