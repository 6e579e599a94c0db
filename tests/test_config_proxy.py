"""The settings of the connection: the proxy, whose password is never shown, and packed replies."""

from __future__ import annotations

import copy
import pickle

import pytest
from attrs import evolve

from nebula_async.config import Config
from nebula_async.errors import ConfigurationError

SECRET = "hunter2"
WITH_PASSWORD = f"http://me:{SECRET}@proxy.example:3128"

REFUSED = [
    "",
    " ",
    "proxy.example:3128",
    "http://",
    "http://:3128",
    "http://proxy.example:0",
    "http://proxy.example:99999",
    "http://proxy.example/path",
    "http://proxy.example?x",
    "http://proxy.example#x",
    "http://proxy example",
    "http://pr\u00f6xy.example",
    "http://proxy.example\n",
    "http:/proxy.example:3128",
    "ftp://proxy.example",
    "socks5://proxy.example:1080",
    f"socks5h://me:{SECRET}@proxy.example:1080",
    f"http://me:{SECRET}",
    f"http://me:{SECRET}/x@proxy.example:3128",
    f"http://me:{SECRET}#@proxy.example:3128",
    f"http://me:{SECRET}@x@proxy.example:3128",
    f"http://me:{SECRET} @proxy.example:3128",
    f"http://me:{SECRET}\n@proxy.example:3128",
    f"http://me:{SECRET}@",
    f"http://me:{SECRET}@proxy.example:3128/path",
    WITH_PASSWORD.encode(),
    (WITH_PASSWORD,),
    3128,
    True,
]


@pytest.mark.parametrize(
    "url",
    [
        None,
        "http://proxy.example:3128",
        "http://proxy.example",
        "https://proxy.example:8443/",
        "HTTP://PROXY.example:3128",
        "http://10.0.0.1:3128",
        "http://[2001:db8::1]:3128",
        "http://me@proxy.example:3128",
        "http://me:@proxy.example:3128",
        "http://me:p%40ss%2Fword@proxy.example:3128",
        WITH_PASSWORD,
    ],
)
def test_a_proxy_is_an_address_with_or_without_a_password(url):
    """A proxy is called by http or https, on any host; its user name and password stand before that."""
    assert url == Config(proxy=url).proxy


@pytest.mark.parametrize("url", REFUSED, ids=repr)
def test_any_other_proxy_is_refused(url):
    """What is no such address is refused: the message says what is allowed, and shows nothing of what was given."""
    with pytest.raises(ConfigurationError) as caught:
        Config(proxy=url)
    message = str(caught.value)

    assert message.startswith("proxy must be http://host:port or https://host:port, with user:password@")
    assert SECRET not in message
    assert "3128" not in message


def test_the_password_of_a_proxy_is_not_shown():
    """Settings are printed without the proxy's user name and password, and with its place."""
    for shown in (repr, str, "{}".format, "{!r}".format):
        text = shown(Config(proxy=WITH_PASSWORD))
        assert "proxy='http://***@proxy.example:3128'" in text
        assert SECRET not in text

    assert "proxy='http://proxy.example:3128'" in repr(Config(proxy="http://proxy.example:3128"))
    assert "proxy=None" in repr(Config())


def test_the_errors_of_other_settings_do_not_show_it():
    """A mistake in another setting says nothing of the proxy."""
    with pytest.raises(ConfigurationError) as caught:
        Config(proxy=WITH_PASSWORD, base_url="ftp://x")

    assert SECRET not in str(caught.value)


def test_settings_with_a_proxy_travel():
    """Workers in other processes use the same proxy, password and all."""
    config = Config(proxy=WITH_PASSWORD, accept_gzip=True)
    for sent in (pickle.loads(pickle.dumps(config)), copy.deepcopy(config), evolve(Config(), proxy=WITH_PASSWORD)):  # noqa: S301
        assert WITH_PASSWORD == sent.proxy
    assert Config(proxy=WITH_PASSWORD) != Config()


def test_there_is_no_proxy_unless_it_is_asked_for(monkeypatch):
    """Without the setting there is no proxy, whatever the environment says of proxies in general."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, WITH_PASSWORD)

    assert None is Config().proxy
    assert None is Config.from_env().proxy


def test_the_environment_may_name_a_proxy_for_this_client():
    """`NEBULA_PROXY` is the proxy, and one that is refused is refused by that name, unseen."""
    assert WITH_PASSWORD == Config.from_env({"NEBULA_PROXY": WITH_PASSWORD}).proxy
    for url in ("", f"socks5://me:{SECRET}@proxy.example"):
        with pytest.raises(ConfigurationError, match="environment variable NEBULA_PROXY: proxy must be") as caught:
            Config.from_env({"NEBULA_PROXY": url})
        assert SECRET not in str(caught.value)


def test_packed_replies_are_asked_for_on_request():
    """Replies come as they are, unless `accept_gzip` asks for packed ones; it is yes or no."""
    assert (False, True) == (Config().accept_gzip, Config(accept_gzip=True).accept_gzip)
    for given in ("yes", 1, None):
        with pytest.raises(ConfigurationError, match="accept_gzip must be True or False"):
            Config(accept_gzip=given)


def test_connections_are_kept_unless_they_are_not_to_be():
    """`keep_alive` is yes or no."""
    assert (True, False) == (Config().keep_alive, Config(keep_alive=False).keep_alive)
    with pytest.raises(ConfigurationError, match="keep_alive must be True or False"):
        Config(keep_alive="no")
