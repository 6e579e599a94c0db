"""The image storage's one page: a stored picture, painted when it is fetched."""

import functools

import attrs
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from nebula_async.emulator.connections import BrokenOff
from nebula_async.emulator.easel import Closing, Easel
from nebula_async.emulator.pictures import decode_sources, render
from nebula_async.emulator.replies import WEB_PAGE
from nebula_async.emulator.service import Service
from nebula_async.emulator.storage import StoredPicture


@attrs.define(eq=False)
class Downloads:
    """Serves stored pictures to whoever has their URL; nobody is asked for a key."""

    service: Service
    easel: Easel

    async def serve(self, request: Request) -> Response:
        """Return a picture, or say that it has expired or never was."""
        picture = self.service.shelf.find(request.path_params["name"], self.service.account.clock())
        if picture is None:
            text = "This picture has expired, or there never was one here.\n"
            return PlainTextResponse(text, self.service.settings.expired_status)
        if picture.is_page:
            return Response(WEB_PAGE, media_type="text/html")
        try:
            file = await self.easel.paint(functools.partial(self._render, picture), at_once=picture.request.is_tiny)
        except Closing:
            return BrokenOff()
        return Response(file, media_type=f"image/{self.service.settings.image_format}")

    def _render(self, picture: StoredPicture) -> bytes:
        image_format = self.service.settings.image_format
        return render(picture.request, decode_sources(picture.request), image_format, picture.index)
