"""The systemd unit of the agent. Pure.

`config/syntra-agent.service` is this text for the newest systemd; a test compares them. docs/install.md gives the
reason of each sandboxing option, and lists the options that the agent cannot have.
"""

from __future__ import annotations

from syntra.install import places

_STEPS_SINCE = 254
"""systemd.service(5): RestartSteps= and RestartMaxDelaySec= exist since this version; an older one warns about them."""

NEWEST = 255

_BACK_OFF = "RestartSteps=6\nRestartMaxDelaySec=60\n"


def unit(systemd_version: int) -> str:
    """The unit file for a version of systemd; 247 is the oldest that knows LoadCredential=."""
    return _UNIT.replace("@BACK_OFF@", _BACK_OFF if systemd_version >= _STEPS_SINCE else "")


_UNIT = f"""\
# Written by `syntra-agent install`. Put changes into a drop-in: systemctl edit syntra-agent
[Unit]
Description=Syntra node agent
Documentation=https://github.com/syntra-dev/syntra-agent
Wants=network-online.target
# The agent starts without the engine and reports that it is missing, so it must not require it.
After=network-online.target docker.service
# Restart forever: an agent that has given up cannot be repaired from the control plane.
StartLimitIntervalSec=0

[Service]
Type=notify
NotifyAccess=main
ExecStartPre={places.BOOT_CHECK}
ExecStart={places.PROGRAM} start
ExecReload=/bin/sh -c 'kill -HUP $MAINPID'
Restart=always
RestartSec=5
@BACK_OFF@# The event loop reports every 20 s that it runs. It needs neither the engine nor the control plane for that.
WatchdogSec=60
TimeoutAbortSec=10
TimeoutStartSec=90
TimeoutStopSec=60
# SIGTERM for the agent, which stops its telemetry process itself; SIGKILL for both when it does not.
KillMode=mixed
OOMScoreAdjust=-500
OOMPolicy=continue
MemoryHigh=400M
MemoryMax=512M
TasksMax=512
LimitNOFILE=65536
# The watchdog ends the agent with SIGABRT; a core file would contain secrets.
LimitCORE=0

LoadCredential=token:{places.TOKEN}
Environment=XDG_CACHE_HOME={places.CACHE}
StateDirectory=syntra
StateDirectoryMode=0700
CacheDirectory=syntra
CacheDirectoryMode=0700
RuntimeDirectory=syntra
RuntimeDirectoryMode=0750
UMask=0077

NoNewPrivileges=yes
ProtectSystem=strict
ReadWritePaths={places.OPT}
ProtectHome=read-only
PrivateDevices=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
RestrictNamespaces=net
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
CapabilityBoundingSet=CAP_DAC_READ_SEARCH CAP_KILL CAP_NET_BIND_SERVICE CAP_SYS_ADMIN CAP_SYS_PTRACE
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
SystemCallFilter=@chown
SystemCallErrorNumber=EPERM

[Install]
WantedBy=multi-user.target
"""
