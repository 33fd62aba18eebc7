import pytest

from fleetgate.config.load import load


def findings(text):
    return [f"{one.severity} {one.render().removeprefix('<text>:')}" for one in load(text, {}).findings]


def test_headers_of_end_users():
    assert findings("gateway: {trust_user_headers: [x-user, X-OpenWebUI-User-Email]}") == []
    (found,) = findings("gateway: {trust_user_headers: ['x user']}")
    assert found.startswith("error ")
    assert "'x user' is no header's name" in found


@pytest.mark.parametrize("name", ["Authorization", "x-api-key", "cookie", "proxy-authorization"])
def test_a_header_with_a_secret_is_no_header_of_an_end_user(name):
    (found,) = findings(f"gateway: {{trust_user_headers: [{name}]}}")
    assert found.startswith("error ")
    assert "holds secrets" in found


def test_tailscale():
    hosts = "hosts: [box.tail1234.ts.net]"
    assert findings(f"gateway: {{tailscale: {{headers: true}}, {hosts}}}") == []
    assert findings("gateway: {tailscale: {whois: /run/tailscale/tailscaled.sock}}") == []
    (found,) = findings("gateway: {tailscale: {headers: true}}")
    assert found.startswith("note ")
    assert "gateway.hosts" in found
    (found,) = findings("gateway: {tailscale: {create: true}}")
    assert found.startswith("warning ")
    assert "nobody is known by this" in found
    (found,) = findings(f'gateway: {{tailscale: {{headers: true, users: {{a@x: "no body"}}}}, {hosts}}}')
    assert found.startswith("error ")
    assert "'no body' cannot be a user" in found


def test_a_socket_is_taken_from_the_directory_of_the_file(tmp_path):
    file = tmp_path / "fleetgate.yaml"
    file.write_text("gateway: {tailscale: {whois: tailscaled.sock}}")
    assert load(file, {}).settings.gateway.tailscale.whois == str(tmp_path / "tailscaled.sock")
