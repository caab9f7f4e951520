"""Everything that can go wrong with a call, as one tree.

A fault is an exception; a verdict (a budget that refuses) is data, see `core.limits`. The first
line of a class's docstring is its default message. Each surface turns these into its own grammar.

    XproxyError
    |- CallerFault             4xx: nothing was sent upstream, nothing was charged
    |  |- InvalidApiKey        401
    |  |- NotAllowed           403  (unpriced or unmetered under a limit, no permission)
    |  |- NotFound             404
    |  |- MethodNotAllowed     405
    |  |- Conflict             409
    |  |- BodyTooLarge         413
    |  |- RateLimited          429
    |  `- InvalidRequest       400  (`code` says which rule, `field` which header or member)
    |- ProviderFault           the provider did not answer as it should
    |  |- ProviderUnreachable  502
    |  |- ProviderGarbage      502
    |  |- ProviderUntrusted    400  (it is one of the caller's choice)
    |  `- ProviderTimeout      504
    |     `- ProviderLate      408  (than the caller allowed)
    `- OurFault                503  (`Retry-After`)
       `- StoreAway            503  (Redis or Postgres did not answer in time)
          `- OutcomeUnknown    503  (it was asked, and may have done it)
"""

from __future__ import annotations

from typing import ClassVar


class XproxyError(Exception):
    """The system has encountered an unexpected error."""

    status: ClassVar[int] = 500
    default_code: ClassVar[str] = "unexpected_error"

    def __init__(
        self,
        message: str | None = None,
        *,
        code: str | None = None,
        field: str | None = None,
        retry_after_s: int | None = None,
        should_retry: bool | None = None,
    ) -> None:
        """`field`: the header or member at fault; `should_retry` becomes `x-should-retry`."""
        self.message = message or (type(self).__doc__ or "").partition("\n")[0]
        self.code = code or self.default_code
        self.field = field
        self.retry_after_s = retry_after_s
        self.should_retry = should_retry
        super().__init__(self.message)


class CallerFault(XproxyError):
    """The request is not valid."""

    status = 400
    default_code = "request_processing_error"


class InvalidRequest(CallerFault):
    """An error occurred while validating the request."""


class InvalidApiKey(CallerFault):
    """Your api key is invalid, missing, or expired."""

    status = 401
    default_code = "invalid_api_key"


class NotAllowed(CallerFault):
    """This key is not allowed to do this."""

    status = 403
    default_code = "not_allowed"


class NotFound(CallerFault):
    """There is nothing at this address."""

    status = 404
    default_code = "not_found"


class MethodNotAllowed(CallerFault):
    """This method is not served here."""

    status = 405
    default_code = "method_not_allowed"
    allowed: ClassVar[tuple[str, ...]] = (
        *("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"),
    )
    """What is: no tunnels (CONNECT), and no echo of what we have added (TRACE)."""


class Conflict(CallerFault):
    """This conflicts with what is there already."""

    status = 409
    default_code = "conflict"


class BodyTooLarge(CallerFault):
    """The request body is larger than this service accepts."""

    status = 413
    default_code = "request_too_large"


class HeadTooLarge(CallerFault):
    """The request's headers are more than this service accepts."""

    status = 431
    default_code = "headers_too_large"


class RateLimited(CallerFault):
    """Too many requests."""

    status = 429
    default_code = "rate_limited"
    headers: tuple[tuple[str, str], ...] = ()
    """What more an answer says: `x-ratelimit-limit-requests` and the like."""


class ProviderFault(XproxyError):
    """The downstream provider returned an error."""

    sent: bool = True
    """Whether a byte of the call went to the provider: then it may have been billed."""
    status = 502
    default_code = "provider_error"


class ProviderUnreachable(ProviderFault):
    """The provider could not be reached."""


class ProviderTimeout(ProviderFault):
    """The provider did not answer in time."""

    status = 504


class ProviderLate(ProviderTimeout):
    """The provider did not answer within the time that the call allows."""

    status = 408
    default_code = "request_timeout"


class ProviderGarbage(ProviderFault):
    """The provider's answer could not be understood."""


class ProviderUntrusted(ProviderFault):
    """The provider's SSL certificate is not valid; nothing was sent."""

    status = 400
    default_code = "invalid_provider_ssl_certificate"


class OurFault(XproxyError):
    """The system has encountered an unexpected error."""

    status = 503


class StoreAway(OurFault):
    """A store this service depends on did not answer; nothing was charged. Try again shortly."""


class OutcomeUnknown(StoreAway):
    """A store did not answer in time; whether it did what it was asked is not known yet."""
