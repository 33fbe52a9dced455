"""The plan of an install: what is missing is done, what is there is kept, and a contradiction is refused."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest

from syntra.install import places
from syntra.install.actions import Enable, InstallVersion, MakeLink, ReloadManager, Restart, Start, WriteFile
from syntra.install.errors import InstallError
from syntra.install.observed import FileSeen, Manager
from syntra.install.plan import endpoint_of, install_plan, server_id_of
from tests.install.wishes import ENDPOINT, TOKEN, empty, installed, wanted


def kinds(wish: Any, seen: Any) -> list[str]:
    return [type(action).__name__ for action in install_plan(wish, seen).actions]


def written(wish: Any, seen: Any) -> dict[str, WriteFile]:
    return {action.path: action for action in install_plan(wish, seen).actions if isinstance(action, WriteFile)}


def test_an_empty_machine_gets_everything_and_is_started_last() -> None:
    plan = install_plan(wanted(), empty())
    assert [type(action).__name__ for action in plan.actions] == [
        *("MakeDirectory", "MakeDirectory", "MakeDirectory", "MakeDirectory"),
        *("WriteFile", "WriteFile", "InstallVersion", "WriteFile", "MakeLink", "WriteFile"),
        *("ReloadManager", "Enable", "Start"),
    ]
    assert plan.notes == ()


def test_a_second_install_has_nothing_to_do() -> None:
    assert install_plan(wanted(), installed()).actions == ()
    assert install_plan(wanted(endpoint=None, token=None), installed()).actions == ()


def test_secrets_are_readable_by_root_alone() -> None:
    files = written(wanted(), empty())
    assert files[places.TOKEN].content == f"{TOKEN}\n".encode()
    assert {files[path].mode for path in (places.TOKEN, places.CONFIGURATION)} == {0o600}


def test_the_token_is_in_its_file_and_nowhere_else() -> None:
    plan = install_plan(wanted(), empty())
    holders = [
        action.path for action in plan.actions if isinstance(action, WriteFile) and TOKEN.encode() in action.content
    ]
    assert holders == [places.TOKEN]
    assert TOKEN not in repr(plan) + repr(wanted()) + "".join(action.says for action in plan.actions)


def test_the_first_configuration_names_the_control_plane_and_the_generated_ids() -> None:
    text = written(wanted(), empty())[places.CONFIGURATION].content.decode()
    assert tomllib.loads(text) == {
        "agent_id": "agt_fresh",
        "server_id": "srv_fresh",
        "control_plane": {"endpoint": ENDPOINT},
    }


def test_ids_of_an_earlier_agent_are_used_again() -> None:
    seen = empty(kept_ids={"agent_id": "agt_old", "server_id": "srv_old"})
    text = written(wanted(), seen)[places.CONFIGURATION].content.decode()
    assert tomllib.loads(text)["agent_id"] == "agt_old"
    assert server_id_of(wanted(), seen) == tomllib.loads(text)["server_id"] == "srv_old"


def test_a_given_server_id_is_used() -> None:
    text = written(wanted(server_id="srv_given"), empty())[places.CONFIGURATION].content.decode()
    assert tomllib.loads(text)["server_id"] == "srv_given"


def test_an_agent_without_a_control_plane_gets_an_empty_token_file_for_its_unit() -> None:
    wish = wanted(endpoint=None, token=None)
    files = written(wish, empty())
    assert files[places.TOKEN].content == b""
    assert tomllib.loads(files[places.CONFIGURATION].content.decode())["control_plane"] == {}
    assert endpoint_of(wish, empty()) is None


def test_another_version_is_installed_and_the_agent_restarted() -> None:
    plan = install_plan(wanted(version="1.3.0"), installed(has_same_program=False))
    assert plan.actions == (InstallVersion(root=places.OPT, version="1.3.0", replaces="1.2.0"), Restart())


def test_a_stopped_agent_is_started_and_not_restarted() -> None:
    assert install_plan(wanted(), installed(is_active=False)).actions == (Start(),)


def test_no_start_enables_only() -> None:
    actions = install_plan(wanted(start=False), empty()).actions
    assert Enable() in actions
    assert Start() not in actions
    assert install_plan(wanted(version="1.3.0", start=False), installed()).actions[-1] != Restart()


def test_a_new_token_replaces_the_old_one_and_restarts() -> None:
    actions = install_plan(wanted(token="syn_agt_new"), installed()).actions
    assert [type(action) for action in actions] == [WriteFile, Restart]


def test_a_token_file_that_others_may_read_gets_its_mode_and_keeps_its_content() -> None:
    files = dict(installed().files) | {places.TOKEN: FileSeen(content=b"kept\n", mode=0o644)}
    (action,) = written(wanted(token=None, endpoint=None), installed(files=files)).values()
    assert (action.path, action.content, action.mode) == (places.TOKEN, b"kept\n", 0o600)


def test_a_stricter_directory_is_kept_and_a_wider_one_corrected() -> None:
    wide = dict(installed().directories) | {places.DATA: 0o755, "/etc/syntra": 0o700}
    (action,) = install_plan(wanted(), installed(directories=wide)).actions
    assert action.says == f"create {places.DATA} (mode 0700)"


def test_a_changed_unit_is_written_again_read_and_used() -> None:
    files = dict(installed().files) | {places.UNIT: FileSeen(content=b"old", mode=0o644)}
    assert kinds(wanted(), installed(files=files)) == ["WriteFile", "ReloadManager", "Restart"]


def test_a_missing_link_needs_no_restart() -> None:
    (action,) = install_plan(wanted(), installed(links={})).actions
    assert action == MakeLink(path=places.COMMAND, target=places.PROGRAM)


def test_openrc_gets_its_script_and_no_reload() -> None:
    plan = install_plan(wanted(), empty(manager=Manager.OPENRC))
    assert ReloadManager() not in plan.actions
    assert places.OPENRC_SCRIPT in [action.path for action in plan.actions if isinstance(action, WriteFile)]
    assert plan.actions[-2:] == (Enable(), Start())


def test_without_a_service_manager_only_files_are_written() -> None:
    plan = install_plan(wanted(), empty(manager=Manager.NONE))
    assert not {Enable(), Start(), ReloadManager()} & set(plan.actions)
    assert any("start the agent yourself" in note for note in plan.notes)


def test_a_missing_engine_is_a_note_and_no_obstacle() -> None:
    plan = install_plan(wanted(), empty(has_engine=False))
    assert any("container engine" in note for note in plan.notes)
    assert Start() in plan.actions


@pytest.mark.parametrize(
    ("wish", "seen", "sentence"),
    [
        (wanted(token=None), empty(), "the control plane needs a token; give it with --token-file FILE"),
        (wanted(endpoint=None), empty(), "there is a token but no control plane; give its address with --endpoint"),
        (
            wanted(endpoint="wss://other/ws"),
            installed(),
            f"/etc/syntra/agent.toml has control_plane.endpoint = {ENDPOINT} and is kept; "
            "set control_plane.endpoint there to wss://other/ws, or omit the option",
        ),
        (
            wanted(server_id="srv_other"),
            installed(),
            "/etc/syntra/agent.toml has server_id = srv_fresh and is kept; "
            "set server_id there to srv_other, or omit the option",
        ),
        (
            wanted(),
            installed(current="1.10.0"),
            "version 1.10.0 is installed, which is newer than 1.2.0; "
            "keep it, or run `syntra-agent update --version 1.2.0`",
        ),
        (
            wanted(),
            empty(systemd_version=241),
            "systemd 241 cannot pass credentials to a service; use a system with systemd 247 or newer",
        ),
    ],
)
def test_a_contradiction_is_refused_with_the_next_step(wish: Any, seen: Any, sentence: str) -> None:
    with pytest.raises(InstallError) as refused:
        install_plan(wish, seen)
    assert str(refused.value) == f"cannot install the agent: {sentence}"


def test_a_token_that_is_there_already_is_enough() -> None:
    files = {places.TOKEN: FileSeen(content=b"syn_agt_kept\n", mode=0o600)}
    plan = install_plan(wanted(token=None), empty(files=files))
    assert places.TOKEN not in written(wanted(token=None), empty(files=files))
    assert plan.actions
