"""Two engines behind the names `a/m` and `b/m`, and the role `both`, which is a chain of them."""

from tests.support.gateway import answer, chain, node, openai_engine, said, settings
from tests.support.upstreams import respond_json, stream_sse

SSE_HEAD = [("Content-Type", "text/event-stream"), ("Transfer-Encoding", "chunked")]


def replies(text="fine"):
    """An engine's answer whichever way it is asked."""

    def route(request):
        if request.json().get("stream"):
            return stream_sse(said(text))
        return respond_json(200, answer(text))

    return route


def good(text="fine", **options):
    return openai_engine(route=replies(text), **options)


def both(a, b, *, first=None, second=None, role=None, transport="auto", **blocks):
    """The chain of two nodes, one try each. `first` and `second` are members of its steps."""
    steps = [{"pool": "a/m", "tries": 1, **(first or {})}, {"pool": "b/m", "tries": 1, **(second or {})}]
    return settings(
        **{
            "nodes": {"a": node(a, transport=transport), "b": node(b)},
            "roles": {"both": chain(*steps, **(role or {}))},
            **blocks,
        }
    )


def alone(a, **blocks):
    return settings(**{"nodes": {"a": node(a)}, **blocks})
