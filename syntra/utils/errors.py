"""The base class of all errors of the agent."""


class AgentError(Exception):
    """An error with a message for people: `cannot <verb> <object>: <reason>; <next step>`.

    `code` is the machine-readable name in `command_response.error.code`.
    """

    code = "INTERNAL"
