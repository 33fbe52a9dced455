"""Internal names: a DNS server for this machine's containers. The message codec is dnspython, imported by `answer`.

`zone`, `limits`, `given`, `self_test`, `resolv_conf`, `upstream`, `settings` and `errors` are free of it, so that an
agent that runs no server does not load it. Nothing here knows an engine: services, networks and gateways
arrive as values.
"""
