# Short names for the scripts; each does its work on its own.

# everything: gate, unit, engine, end to end
test *what:
    scripts/test {{what}}

# lint, types and layers
gate:
    scripts/test gate

# the compiled binary, dist/syntra-agent
build *options:
    scripts/build {{options}}

# ruff's formatter and safe fixes over the tree
format:
    scripts/format
