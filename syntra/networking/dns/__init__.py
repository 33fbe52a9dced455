"""Internal names: a DNS server for this host's containers. The message codec is dnspython, which `answer` imports.

`zone`, `limits`, `given`, `self_test`, `resolv_conf`, `upstream`, `settings` and `errors` do not import it, so an agent
without a server does not load it. Nothing here knows a container engine: services, networks and gateways are arguments.
"""
