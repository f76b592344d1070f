--- The seed of the random numbers in specs: FP8_SEED, or 1.
return tonumber(os.getenv "FP8_SEED") or 1
