"""Pictures side by side, as a PNG file."""

import pathlib
import struct
import zlib

import numpy as np

from recjax.errors import writing


def grid(pictures: np.ndarray, gap: int = 2) -> np.ndarray:
  """One image uint8 of pictures [R, C, H, W, 3] in [-1, 1], R rows of C, on white with gaps between."""
  rows, columns, height, width, channels = pictures.shape
  padded = np.ones((rows, columns, height + gap, width + gap, channels), np.float32)
  padded[:, :, :height, :width] = np.clip(pictures, -1, 1)
  image = padded.transpose(0, 2, 1, 3, 4).reshape(rows * (height + gap), -1, channels)
  return np.round((image[: -gap or None, : -gap or None] + 1) * 127.5).astype(np.uint8)


def write_png(path: pathlib.Path, image: np.ndarray, zoom: int = 4) -> None:
  """Writes an RGB image uint8 [H, W, 3], every pixel as a square of `zoom` pixels."""
  image = np.repeat(np.repeat(image, zoom, axis=0), zoom, axis=1)
  height, width = image.shape[:2]
  lines = np.concatenate([np.zeros((height, 1), np.uint8), image.reshape(height, -1)], axis=1)

  def chunk(name: bytes, content: bytes) -> bytes:
    check = zlib.crc32(name + content)
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", check)

  header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
  parts = [chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(lines.tobytes())), chunk(b"IEND", b"")]
  with writing(path):
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
