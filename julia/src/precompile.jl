# What every process needs at its first prediction and its first step, compiled with the package.
# Networks are tiny; the types are those of the real ones.
