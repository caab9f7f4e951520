"""The control plane: one thin controller for each noun, under `/api/v1`; `build` makes it."""

from collections.abc import Sequence

from litestar import Controller, Router
from litestar.datastructures import State
from litestar.di import Provide
from litestar.exceptions import HTTPException
from litestar.openapi import OpenAPIConfig
from litestar.openapi.spec import Components, SecurityScheme

from metering.api import faults
from metering.api.applications import ApplicationController
from metering.api.attachments import AttachmentController
from metering.api.audit import AuditController
from metering.api.auth import guard
from metering.api.bodies import BodyController
from metering.api.budgets import BudgetController
from metering.api.categories import CategoryController
from metering.api.credentials import CredentialController
from metering.api.health import HealthController
from metering.api.ingest import IngestController
from metering.api.keys import KeyController
from metering.api.legacy import BudgetTagController, LegacyBudgetController, LimitTagController
from metering.api.limit_history import LimitHistoryController
from metering.api.limits import LimitController
from metering.api.litellm.activity import ActivityController, activity
from metering.api.litellm.budgets import SharedBudgetController
from metering.api.litellm.customers import CustomerController, EndUserController
from metering.api.litellm.global_spend import GlobalSpendController
from metering.api.litellm.imports import ImportController
from metering.api.litellm.keys import VirtualKeyController
from metering.api.litellm.spans import dates
from metering.api.litellm.spend import SpendController
from metering.api.litellm.teams import TeamController
from metering.api.litellm.users import UserController
from metering.api.own_prices import OwnPriceController
from metering.api.pages import paging
from metering.api.portkey import ROOTS
from metering.api.portkey.models import ModelController
from metering.api.portkey.virtual_keys import PortkeyKeyController
from metering.api.price_versions import PriceVersionController
from metering.api.prices import PriceController
from metering.api.probe import Probe
from metering.api.repricing import RepricingController
from metering.api.requests import RequestController
from metering.api.schema import Document, Page
from metering.api.secret import SecretController
from metering.api.server import (
    BODY_BYTES_MAX,
    ApiRequest,
    DecimalSchema,
    ExactResponse,
    ManagementApi,
    decode_segments,
)
from metering.api.services import Services
from metering.api.usage import UsageController
from metering.api.why import WhyController
from metering.errors import XproxyError

__all__ = ["Probe", "Services", "build"]


OURS: Sequence[type[Controller]] = (
    ApplicationController,
    AttachmentController,
    AuditController,
    BodyController,
    BudgetController,
    BudgetTagController,
    CategoryController,
    CredentialController,
    ImportController,
    IngestController,
    KeyController,
    LegacyBudgetController,
    LimitController,
    LimitHistoryController,
    LimitTagController,
    OwnPriceController,
    PriceController,
    PriceVersionController,
    RepricingController,
    RequestController,
    SecretController,
    UsageController,
    WhyController,
)
"""Below `/api/v1`."""
LITELLM: Sequence[type[Controller]] = (
    ActivityController,
    CustomerController,
    EndUserController,
    GlobalSpendController,
    SharedBudgetController,
    SpendController,
    TeamController,
    UserController,
    VirtualKeyController,
)
"""Where LiteLLM has them."""
PORTKEY: Sequence[type[Controller]] = (PortkeyKeyController,)
"""Below each of Portkey's roots."""


def build(services: Services) -> ManagementApi:
    """The application of these parts; the schema is at `/schema`, for people at `/schema/page`."""
    return ManagementApi(
        route_handlers=[
            Router("/api/v1", route_handlers=OURS),
            HealthController,
            *LITELLM,
            *(Router(root, route_handlers=PORTKEY) for root in ROOTS),
            ModelController,
        ],
        guards=[guard],
        before_request=decode_segments,
        dependencies={
            "paging": Provide(paging),
            "dates": Provide(dates),
            "activity": Provide(activity),
        },
        request_class=ApiRequest,
        request_max_body_size=BODY_BYTES_MAX,
        response_class=ExactResponse,
        exception_handlers={
            XproxyError: faults.of_ours,
            HTTPException: faults.of_litestar,
            Exception: faults.unexpected,
        },
        state=State({"services": services}, deep_copy=False),
        plugins=[DecimalSchema()],
        openapi_config=_openapi(),
        logging_config=None,
    )


def _openapi() -> OpenAPIConfig:
    return OpenAPIConfig(
        title="xproxy",
        version="1",
        path="/schema",
        description="Keeps budgets and says what LLM calls cost. Every error is an ApiError.",
        components=Components(
            security_schemes={
                "key": SecurityScheme(
                    type="apiKey", name="xProxy-Api-Key", security_scheme_in="header"
                )
            }
        ),
        security=[{"key": []}],
        render_plugins=[Document(), Page()],
        use_handler_docstrings=True,
    )
