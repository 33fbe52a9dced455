# Short names for the scripts; each does its work on its own.

# everything: gate, unit, engine, end to end
test *what:
    scripts/test {{what}}

# lint, types and layers
gate:
    scripts/test gate

# the main job, end to end, told as it goes
demo *options:
    scripts/demo {{options}}

# one benchmark: deploy, start or idle
bench name *options:
    scripts/bench {{name}} {{options}}

# the compiled binary, dist/syntra-agent
build *options:
    scripts/build {{options}}

# ruff's formatter and safe fixes over the tree
format:
    scripts/format
