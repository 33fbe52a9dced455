"""The OpenRC script of the agent, for Alpine. Pure.

supervise-daemon(8) restarts the agent. It runs no hook before a respawn, so `boot-check` starts the agent itself.
"""

from __future__ import annotations

from syntra.install import places

SCRIPT = f"""\
#!/sbin/openrc-run
# Written by `syntra-agent install`. Put changes into /etc/conf.d/syntra-agent.

name="Syntra node agent"
supervisor=supervise-daemon
command={places.BOOT_CHECK}
command_args="{places.PROGRAM} start"
pidfile=/run/syntra-agent.pid
respawn_delay=5
# 0: restart forever. An agent that has given up cannot be repaired from the control plane.
respawn_max=0
retry="SIGTERM/60/SIGKILL/5"
umask=0077
output_log=/var/log/syntra-agent.log
error_log=/var/log/syntra-agent.log
export XDG_CACHE_HOME={places.CACHE}

extra_started_commands="reload"

depend() {{
    use net dns logger
    after localmount docker firewall
}}

start_pre() {{
    checkpath --directory --mode 0700 {places.DATA} {places.CACHE}
    checkpath --directory --mode 0750 {places.RUN}
    checkpath --file --mode 0600 /var/log/syntra-agent.log
}}

reload() {{
    ebegin "Reloading the configuration of ${{RC_SVCNAME}}"
    supervise-daemon "${{RC_SVCNAME}}" --signal HUP --pidfile "${{pidfile}}"
    eend $?
}}
"""
