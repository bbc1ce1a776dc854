"""Protection of Dagster's web app: pages of other origins can't read from it or launch runs.

Dagster answers any request that reaches it. It executes a GraphQL mutation that comes by GET, in a form, from any
`Origin` and under any `Host`, so every page that is open in the operator's browser could launch runs.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from hmac import compare_digest
from http import HTTPStatus
from urllib.parse import parse_qsl, urlencode, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import cookie_parser
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

COOKIE = "mei_ui"
TOKEN = "token"  # noqa: S105 - the name of a parameter of the address, not its value
GRAPHQL = "/graphql"
HEADERS = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
"""Headers of every answer, in addition to the `frame-ancestors` that `guarded` adds."""
_FRAMES = "frame-ancestors 'none'"
_READS = frozenset({"GET", "HEAD"})
_POLICY_VIOLATION = 1008  # close code of a WebSocket, RFC 6455
_COOKIE_AGE_S = 30 * 86_400


@dataclass(frozen=True)
class Access:
    """Access rules of the web page.

    Attributes:
        hosts: Host names and addresses that requests may use, lower case, without port.
        token: Secret that a request must present; empty if no secret is needed.
    """

    hosts: frozenset[str]
    token: str = ""


def guarded(app: ASGIApp, access: Access) -> ASGIApp:
    """Return `app` behind the rules of `access`.

    A request needs an allowed `Host`, which stops DNS rebinding, and the token if there is one. A WebSocket, and every
    request but GET and HEAD, needs the page's own `Origin`. GraphQL is executed only if it comes by POST as JSON.
    """

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await app(scope, receive, send)
            return
        refusal = _refusal(scope, access)
        if scope["type"] == "websocket":
            if refusal is None:
                await app(scope, receive, send)
            else:
                await receive()
                await send({"type": "websocket.close", "code": _POLICY_VIOLATION, "reason": _reason(refusal)})
        else:
            await (refusal or app)(scope, receive, _with_headers(send))

    return answer


def _refusal(scope: Scope, access: Access) -> Response | None:
    """Return the answer to a request that must not reach Dagster; None if it may."""
    headers = Headers(scope=scope)
    host = headers.get("host", "")
    wrong = _check_address(scope, headers, access.hosts)
    if wrong is None and access.token:
        wrong = _sign_in(scope, headers, access.token)
    if wrong is not None:
        return wrong
    if scope["type"] == "websocket":
        return _check_origin(headers, host)
    if scope["method"] not in _READS:
        return _check_origin(headers, host) or _check_json(scope, headers)
    if scope["path"] == GRAPHQL and "text/html" not in headers.get("accept", ""):
        return _refused(HTTPStatus.METHOD_NOT_ALLOWED, "GraphQL is executed only by POST", {"Allow": "POST"})
    return None


def _check_address(scope: Scope, headers: Headers, hosts: frozenset[str]) -> Response | None:
    host = headers.get("host", "")
    if len(headers.getlist("host")) != 1 or _hostname(host) not in hosts | _own_address(scope):
        return _refused(
            HTTPStatus.MISDIRECTED_REQUEST,
            f"host {host!a} is not allowed; open the address that `mei ui` printed, or allow the name by --allow-host",
        )
    if not scope["path"].isprintable():
        # Starlette's routes match a path with a line end behind it as well, and we would take it for another one.
        return _refused(HTTPStatus.BAD_REQUEST, "the path holds control characters")
    return None


def _check_origin(headers: Headers, host: str) -> Response | None:
    """Refuse a request whose `Origin`, which browsers state, is another server."""
    origins = headers.getlist("origin")
    if len(origins) == 1:
        own = urlsplit(origins[0])
        if own.scheme in {"http", "https"} and own.netloc.lower() == host.lower():
            return None
    stated = ", ".join(origins) or "none"
    return _refused(HTTPStatus.FORBIDDEN, f"origin {stated!a} is not the page's own, http://{host.lower()}")


def _check_json(scope: Scope, headers: Headers) -> Response | None:
    """Refuse GraphQL that is not JSON: without a preflight, another origin can send only forms and plain text."""
    content_type = headers.get("content-type", "").partition(";")[0].strip().lower()
    if scope["path"] != GRAPHQL or content_type == "application/json":
        return None
    return _refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "GraphQL is executed only if it comes as application/json")


def _sign_in(scope: Scope, headers: Headers, token: str) -> Response | None:
    """Return None for a request with the token; the first one in the address becomes a cookie."""
    scheme, _, bearer = headers.get("authorization", "").partition(" ")
    cookies = cookie_parser(headers.get("cookie", ""))
    if (scheme.lower() == "bearer" and _equal(bearer.strip(), token)) or _equal(cookies.get(COOKIE, ""), token):
        return None
    query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
    if scope["type"] == "http" and scope["method"] == "GET" and _equal(dict(query).get(TOKEN, ""), token):
        return _keep_token(scope["path"], [item for item in query if item[0] != TOKEN], token)
    return _refused(
        HTTPStatus.UNAUTHORIZED,
        "this page needs a token: open the address that `mei ui` printed, with its ?token=...",
        {"WWW-Authenticate": "Bearer"},
    )


def _keep_token(path: str, query: list[tuple[str, str]], token: str) -> Response:
    # Several slashes in front would make the path the name of another host.
    address = f"/{path.lstrip('/')}" + (f"?{urlencode(query)}" if query else "")
    answer = RedirectResponse(address, status_code=HTTPStatus.SEE_OTHER, headers={"Cache-Control": "no-store"})
    answer.set_cookie(COOKIE, token, max_age=_COOKIE_AGE_S, httponly=True, samesite="lax")  # a link to a run works
    return answer


def _equal(secret: str, token: str) -> bool:
    return compare_digest(secret.encode(), token.encode())


def _hostname(host: str) -> str:
    try:
        return (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        return ""


def _own_address(scope: Scope) -> frozenset[str]:
    """Return the address that the request was sent to, which no page of another name can state as its host."""
    server = scope.get("server")
    return frozenset({server[0].lower()}) if server else frozenset()


def _refused(status: HTTPStatus, why: str, headers: Mapping[str, str] | None = None) -> Response:
    return PlainTextResponse(f"{why}\n", status_code=status, headers={"Cache-Control": "no-store", **(headers or {})})


def _reason(refusal: Response) -> str:
    return bytes(refusal.body).decode().strip()[:100]  # a close frame holds at most 123 bytes


def _with_headers(send: Send) -> Send:
    async def wrapped(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers[name] = value
            headers.append("Content-Security-Policy", _FRAMES)
        await send(message)

    return wrapped
