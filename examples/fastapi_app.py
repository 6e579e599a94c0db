"""A web service: pictures, the progress of many, those whose visitor left, and its health.

pip install fastapi uvicorn && uvicorn --app-dir examples fastapi_app:app
curl -o cat.png --json '{"prompt": "a flying cat"}' http://127.0.0.1:8000/images
"""

import os
from typing import Annotated

from fastapi import FastAPI, Query, Response
from fastapi.responses import HTMLResponse

from nebula_async import DirectorySink
from nebula_async.integrations.fastapi import (
    Finish,
    ImageBody,
    Nebula,
    finished_key,
    handle_errors,
    health_routes,
    image_response,
    nebula_lifespan,
    progress_response,
    stored_image_response,
)

shelf = DirectorySink(os.environ.get("PICTURES", "pictures"))
app = FastAPI(lifespan=nebula_lifespan(when_left=Finish(shelf)), routes=health_routes())
handle_errors(app)


class Wish(ImageBody, models=["black-forest-labs/FLUX.1-schnell"], most_side=1024, most_steps=8, most_picture_bytes=0):
    """What visitors may ask for."""


@app.post("/images", response_class=Response)
async def create(wish: Wish, nebula: Nebula):
    return image_response(await nebula.generate(wish.to_request()), facts=True)


@app.get("/pictures/{name:path}", response_class=Response)
@app.get("/finished", response_class=Response)
async def find(name: str = "", wish: str = ""):  # or the id of a request whose visitor left
    return stored_image_response(shelf.path, finished_key(wish) if wish else name)


@app.get("/batch", response_class=Response)
async def batch(nebula: Nebula, prompt: Annotated[list[str], Query(max_length=20)]):
    shared = {"model": Wish.limits.models[0], "width": 256, "height": 256, "sink": shelf}
    folder = str(shelf.path)
    return progress_response(nebula, prompt, place=lambda it: "/pictures" + it.stored.removeprefix(folder), **shared)


@app.get("/", response_class=HTMLResponse)
async def page():
    return """<!doctype html><body><script>const events = new EventSource("/batch?prompt=a+red+cat&prompt=a+blue+cat")
    events.addEventListener("result", event => JSON.parse(event.data).images?.forEach(
      image => document.body.append(Object.assign(new Image(), { src: image.url }))))
    events.addEventListener("end", () => events.close())</script>"""
