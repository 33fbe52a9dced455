# Short names for the scripts. `scripts/NAME --help` describes each one.

# all tests, or one stage: gate, unit, engine, e2e, soak
test *what:
    scripts/test {{what}}

# lint, format, types and import layers
gate:
    scripts/test gate

# the agent, a control plane and a sample service, end to end
demo *options:
    scripts/demo {{options}}

# docs/session.md, from what the commands print
record-session *options:
    scripts/record-session {{options}}

# one benchmark: deploy, start, idle, health, switch, failover, logs or exec
bench name *options:
    scripts/bench {{name}} {{options}}

# the compiled binary, dist/syntra-agent
build *options:
    scripts/build {{options}}

# keys, archives and the signed manifest of a release
release-sign *what:
    scripts/release-sign {{what}}

# ruff format, and ruff's safe fixes
format:
    scripts/format

# the Python modules of the messages in proto/
generate-proto:
    scripts/generate-proto
