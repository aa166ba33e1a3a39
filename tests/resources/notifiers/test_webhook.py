"""What a web hook gets, and what is said when it gets nothing."""

from __future__ import annotations

import hashlib
import hmac
import socket

import pytest

from fleet.errors import InvalidInputError, PermanentError, ReceiverUnavailableError
from fleet.ports.notifier import Alert
from resources.notifiers.webhook import SIGNATURE_HEADER, WebhookNotifier
from tests.resources.notifiers.alerts import alert_of
from tests.servers.http_receiver import HttpReceiver


def test_an_alert_is_posted_whole(receiver: HttpReceiver) -> None:
    """Every field, to the URL's own path and query."""
    alert = alert_of(escalation=2)
    WebhookNotifier(f"{receiver.url}/hook?token=secret").notify(alert)
    (posted,) = receiver.posted
    assert posted.path == "/hook?token=secret"
    assert posted.headers["Content-Type"] == "application/json"
    assert posted.json() == {
        "format": 1,
        "key": alert.key,
        "subject": alert.subject,
        "severity": "error",
        "text": alert.text,
        "raised_at": alert.raised_at.isoformat(),
        "escalation": 2,
        "facts": {"incident": alert.key, "kind": "node", "region": "eu"},
    }
    assert SIGNATURE_HEADER not in posted.headers


def test_an_alert_without_a_key_is_known_by_its_subject(receiver: HttpReceiver) -> None:
    """Alerts of recovery points have none."""
    WebhookNotifier(receiver.url).notify(Alert("rpo", "warn", "text", alert_of().raised_at))
    (posted,) = receiver.posted
    assert (posted.path, posted.json()["key"]) == ("/", "rpo")


def test_a_secret_signs_the_bytes_that_were_sent(receiver: HttpReceiver) -> None:
    """The receiver proves who sent it before it parses anything."""
    WebhookNotifier(receiver.url, secret="s3cret").notify(alert_of())
    (posted,) = receiver.posted
    digest = hmac.new(b"s3cret", posted.body, hashlib.sha256).hexdigest()
    assert posted.headers[SIGNATURE_HEADER] == f"sha256={digest}"


@pytest.mark.parametrize("status", [500, 502, 503, 408, 429])
def test_a_status_that_may_pass_is_worth_another_try(receiver: HttpReceiver, status: int) -> None:
    """The notifier itself posts once; who asks decides when to try again."""
    receiver.status, receiver.answer = status, b"busy\n now"
    with pytest.raises(ReceiverUnavailableError, match=f"answered {status}: busy now"):
        WebhookNotifier(receiver.url).notify(alert_of())
    assert len(receiver.posted) == 1


@pytest.mark.parametrize("status", [301, 302, 400, 401, 404, 410])
def test_a_refusal_needs_a_person(receiver: HttpReceiver, status: int) -> None:
    """A redirect is one, too: the alert goes where the settings say, or nowhere."""
    receiver.status, receiver.headers = status, {"Location": f"{receiver.url}/elsewhere"}
    with pytest.raises(PermanentError, match=f"answered {status}") as caught:
        WebhookNotifier(f"{receiver.url}/hook?token=secret").notify(alert_of())
    assert "secret" not in str(caught.value)
    assert len(receiver.posted) == 1


def test_a_hook_that_hangs_costs_the_timeout(receiver: HttpReceiver) -> None:
    """And no more."""
    receiver.hangs = True
    with pytest.raises(ReceiverUnavailableError, match="was not reached"):
        WebhookNotifier(receiver.url, timeout_s=0.2).notify(alert_of())


def test_a_hook_that_is_not_there_is_named_without_its_secret() -> None:
    """Host and port only: the path may hold a token."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(ReceiverUnavailableError, match=f"127.0.0.1:{port}") as caught:
        WebhookNotifier(f"http://127.0.0.1:{port}/T0/secret").notify(alert_of())
    assert "secret" not in str(caught.value)


def test_an_answer_that_is_no_http_is_worth_another_try() -> None:
    """Something else listens there, for now."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(30)
        port = server.getsockname()[1]
        import threading

        def talk() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(65_536)
                connection.sendall(b"SSH-2.0-no\r\n\r\n")

        thread = threading.Thread(target=talk)
        thread.start()
        with pytest.raises(ReceiverUnavailableError, match="was not reached"):
            WebhookNotifier(f"http://127.0.0.1:{port}").notify(alert_of())
        thread.join()


@pytest.mark.parametrize(
    "url",
    ["", "example.org/hook", "ftp://h/secret", "http://", "http://u:secret@h/", "http://h:x/secret",
     "http://[::1/secret"],
)  # fmt: skip
def test_what_is_no_address_is_refused_before_the_first_alert(url: str) -> None:
    """At the start of the process, not at 3 a.m.; the message keeps the secret."""
    with pytest.raises(InvalidInputError, match=r"webhook\.url") as caught:
        WebhookNotifier(url)
    assert "secret" not in str(caught.value)
