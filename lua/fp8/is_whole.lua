--- Whether a value is a whole number of at least `least`, small enough that a double tells it from its neighbours.
return function(value, least)
  return type(value) == "number" and value >= least and value == math.floor(value) and value < 2^53
end
