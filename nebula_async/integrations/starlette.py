"""For applications of Starlette: one client, its errors as answers, pictures and their progress, and a good end.

    app = Starlette(routes=[…], lifespan=nebula_lifespan(timeout=60))
    handle_errors(app)

and in a route `made = await nebula_of(request).generate(…)`, `return image_response(made)`. Needs Starlette alone. The
client of a request obeys the policy for visitors who leave; `request.state.nebula` is the same one without it.
"""

from nebula_async.integrations.web.health import health_routes
from nebula_async.integrations.web.http_errors import handle_errors
from nebula_async.integrations.web.image_responses import IMMUTABLE, PRIVATE, image_response, stored_image_response
from nebula_async.integrations.web.leaving import ClientLeft, Departed, Finish, ShuttingDown
from nebula_async.integrations.web.lifespan import nebula_lifespan, nebula_of
from nebula_async.integrations.web.progress import progress_response
from nebula_async.integrations.web.settling import finished_key
from nebula_async.integrations.web.several_images import images_response

__all__ = [
    "IMMUTABLE",
    "PRIVATE",
    "ClientLeft",
    "Departed",
    "Finish",
    "ShuttingDown",
    "finished_key",
    "handle_errors",
    "health_routes",
    "image_response",
    "images_response",
    "nebula_lifespan",
    "nebula_of",
    "progress_response",
    "stored_image_response",
]
