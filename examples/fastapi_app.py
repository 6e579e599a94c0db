"""A web service with one client for all its requests; errors become the status that their cause deserves.

pip install fastapi uvicorn && uvicorn --app-dir examples fastapi_app:app
curl -o cat.png 'http://127.0.0.1:8000/picture?prompt=a+flying+cat'
"""

from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import Depends, FastAPI, Request, Response
from fastapi.responses import JSONResponse

from nebula_async import (
    AsyncNebula,
    BadRequestError,
    ContentPolicyError,
    DeadlineError,
    InvalidRequestError,
    NebulaError,
    NotFoundError,
    RateLimitError,
)

STATUSES = {
    (InvalidRequestError, BadRequestError, ContentPolicyError, NotFoundError): 422,  # who asks can do better
    (RateLimitError,): 429,
    (DeadlineError,): 504,
}


@asynccontextmanager
async def lifespan(_app):
    async with AsyncNebula() as nebula:  # NEBULA_TIMEOUT is the longest that a call may take
        yield {"nebula": nebula}


async def get_nebula(request: Request):  # in tests: app.dependency_overrides[get_nebula]
    return request.state.nebula


app = FastAPI(lifespan=lifespan)


@app.exception_handler(NebulaError)
async def refuse(_request, error):
    status = next((status for kinds, status in STATUSES.items() if isinstance(error, kinds)), 502)
    retry_after = getattr(error, "retry_after", None)
    headers = {} if retry_after is None else {"Retry-After": f"{retry_after:.0f}"}
    return JSONResponse({"detail": error.message, "charges": str(error.charges)}, status, headers)


@app.get("/picture", response_class=Response)
async def picture(prompt: str, nebula: Annotated[AsyncNebula, Depends(get_nebula)], width: int = 512):
    made = await nebula.generate(prompt, model="black-forest-labs/FLUX.1-schnell", width=width, height=width)
    return Response(made.image.data, media_type=made.image.media_type, headers={"X-Seed": str(made.request.seed)})
