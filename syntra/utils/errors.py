"""The root of every error of ours."""


class AgentError(Exception):
    """Anything that went wrong in a way the agent can say: `cannot <verb> <object>: <reason>; <next step>`.

    `code` is the machine-readable name that travels in `command_response.error.code`.
    """

    code = "INTERNAL"
