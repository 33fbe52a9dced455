"""The verbs: names, summaries and modules.

A verb's module is imported only when the verb is used, so `version` does not load a YAML parser. The imports are
written out, because the compiled binary contains only modules that the compiler can see.
"""

from __future__ import annotations

import argparse

# What type checkers take for true. `typing` itself costs a short verb an eighth of its time.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    class Verb(Protocol):
        """The interface of a verb's module."""

        def add_arguments(self, parser: argparse.ArgumentParser) -> None:
            """Declare the verb's own arguments."""

        def run(self, args: argparse.Namespace) -> int:
            """Run the verb; return the exit code. Raises AgentError with the sentence to print."""


SUMMARIES = {
    "start": "run the agent in the foreground",
    "status": "show the agent, the control plane, the container engine, warnings and alerts",
    "doctor": "check the machine, the engine, the agent and the control plane, and say how to fix each problem",
    "version": "show the version",
    "init": "write a service file after three questions, or service files from a Compose file",
    "plan": "show what a deploy would change, and its steps, without running them",
    "deploy": "deploy service files, or folders of them, and wait until the deploys have ended",
    "ps": "list services",
    "scale": "change the number of replicas",
    "restart": "restart the replicas of a service, one after another",
    "stop": "stop a service; --remove also deletes it",
    "up": "start a stopped service again, as it was",
    "pause": "leave a service alone for maintenance: the agent neither restores nor deploys it",
    "resume": "end a pause",
    "rm": "remove a service and its containers; volumes stay",
    "deployments": "list the deployments of a service: when, which image, who asked, how each ended",
    "secrets": "store secrets for variables of services: set, list, rm",
    "rollback": "roll back a service to an earlier deployment",
    "promote": "send all traffic to the canary",
    "abort": "remove the canary and return all traffic to the previous version",
    "logs": "show the logs of services, all replicas together",
    "events": "show what happened: deploys, health, exits, restarts, proxy, connection",
    "exec": "run a command in one container of a service",
    "cp": "copy files and folders from and to a container",
    "open": "forward a port of this machine to a replica of a service",
    "metrics": "show the CPU, memory, network and disk use of services",
    "top": "show what services use now, live: CPU, memory, network, disk, requests, errors, log lines",
    "telemetry": "show the telemetry that services send: status, tail",
    "proxy": "manage Traefik, the proxy in front of the services: up, down, status",
    "completion": "print the shell's completion of this command: bash, zsh, fish",
    "update": "install a newer version of the agent",
    "config": "check or show the configuration",
    "install": "make this binary a service of the machine, and connect it to a control plane",
    "uninstall": "remove the agent from the machine; services keep running",
    "controlplane": "run the reference control plane, or call one",
}


def load(name: str) -> Verb:
    """Import the module of a verb."""
    match name:
        case "start":
            from syntra.cli import start

            return start
        case "status":
            from syntra.cli import status

            return status
        case "doctor":
            from syntra.cli import doctor

            return doctor
        case "version":
            from syntra.cli import version

            return version
        case "init":
            from syntra.cli import init

            return init
        case "plan":
            from syntra.cli import plan

            return plan
        case "deploy":
            from syntra.cli import deploy

            return deploy
        case "ps":
            from syntra.cli import ps

            return ps
        case "scale":
            from syntra.cli import scale

            return scale
        case "restart":
            from syntra.cli import restart

            return restart
        case "stop":
            from syntra.cli import stop

            return stop
        case "up":
            from syntra.cli import up

            return up
        case "pause":
            from syntra.cli import pause

            return pause
        case "resume":
            from syntra.cli import resume

            return resume
        case "rm":
            from syntra.cli import rm

            return rm
        case "secrets":
            from syntra.cli import secrets

            return secrets
        case "rollback":
            from syntra.cli import rollback

            return rollback
        case "promote":
            from syntra.cli import promote

            return promote
        case "abort":
            from syntra.cli import abort

            return abort
        case "deployments":
            from syntra.cli import deployments

            return deployments
        case "events":
            from syntra.cli import events

            return events
        case "logs":
            from syntra.cli import logs

            return logs
        case "exec":
            from syntra.cli import exec

            return exec
        case "cp":
            from syntra.cli import cp

            return cp
        case "open":
            from syntra.cli import open

            return open
        case "metrics":
            from syntra.cli import metrics

            return metrics
        case "top":
            from syntra.cli import top

            return top
        case "telemetry":
            from syntra.cli import telemetry

            return telemetry
        case "proxy":
            from syntra.cli import proxy

            return proxy
        case "completion":
            from syntra.cli import shell_completion

            return shell_completion
        case "update":
            from syntra.cli import update

            return update
        case "config":
            from syntra.cli import config

            return config
        case "install":
            from syntra.cli import install

            return install
        case "uninstall":
            from syntra.cli import uninstall

            return uninstall
        case "controlplane":
            from syntra.cli import controlplane

            return controlplane
        case _:
            raise AssertionError(f"verb {name} cannot come here because the parser knows the verbs")
