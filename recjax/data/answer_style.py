"""Style of an answer as counts: its length, what it cites, from what kind of source.

The features of Search Arena, arXiv 2506.05334: words of an answer (split at white space, mean over
its turns), the number of addresses in its search trace, and whether any of them is of a kind of source.
Domain lists are ours and short; a kind is one of SOURCES, or "other" where no list has the domain.
"""

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

SOURCES = {
  "youtube": ("youtube.com", "youtu.be"),
  "gov_edu": (".gov", ".edu", ".gov.uk", ".ac.uk", "europa.eu", "who.int"),
  "wiki": ("wikipedia.org", "wikimedia.org", "wiktionary.org", "fandom.com"),
  "us_news": (
    "nytimes.com", "washingtonpost.com", "cnn.com", "foxnews.com", "nbcnews.com", "cbsnews.com",
    "usatoday.com", "wsj.com", "npr.org", "apnews.com", "politico.com", "cnbc.com", "bloomberg.com",
  ),
  "foreign_news": (
    "bbc.com", "bbc.co.uk", "theguardian.com", "reuters.com", "aljazeera.com", "dw.com", "lemonde.fr",
    "spiegel.de", "elpais.com", "telegraph.co.uk", "scmp.com", "timesofindia.indiatimes.com",
  ),
  "social_media": (
    "reddit.com", "x.com", "twitter.com", "facebook.com", "instagram.com", "tiktok.com", "linkedin.com",
    "quora.com", "vk.com", "threads.net",
  ),
  "community_blog": (
    "medium.com", "substack.com", "wordpress.com", "blogspot.com", "dev.to", "tumblr.com",
  ),
  "tech_coding": (
    "github.com", "stackoverflow.com", "stackexchange.com", "readthedocs.io", "docs.python.org",
    "developer.mozilla.org", "huggingface.co", "pypi.org", "geeksforgeeks.org",
  ),
  "academic_journal": (
    "arxiv.org", "nature.com", "science.org", "sciencedirect.com", "springer.com", "wiley.com",
    "ncbi.nlm.nih.gov", "jstor.org", "acm.org", "ieee.org", "plos.org", "mdpi.com", "frontiersin.org",
  ),
  "retail": (
    "amazon.com", "ebay.com", "walmart.com", "bestbuy.com", "target.com", "etsy.com", "aliexpress.com",
  ),
}
FEATURES = ("response_length", "citation_count", *(f"cites_{kind}" for kind in (*SOURCES, "other")))


def source_of(address: str) -> str:
  """The kind of source of an address; the longest domain that fits decides."""
  try:
    host = urlsplit(address if "//" in address else f"//{address}").hostname or ""
  except ValueError:  # no address after all
    return "other"
  host = host.removeprefix("www.")
  fits = [
    (len(domain), kind) for kind, domains in SOURCES.items() for domain in domains
    if host == domain or host.endswith(domain if domain.startswith(".") else f".{domain}")
  ]
  return max(fits)[1] if fits else "other"


def addresses(trace: Any) -> Iterator[str]:
  """The addresses in a search trace: texts that begin with http, however deep; None has none."""
  if isinstance(trace, str):
    if trace.startswith(("http://", "https://")):
      yield trace
  elif isinstance(trace, dict):
    for value in trace.values():
      yield from addresses(value)
  elif isinstance(trace, (list, tuple)):
    for value in trace:
      yield from addresses(value)


def response_length(messages: list[dict[str, Any]]) -> float:
  """Words of the assistant's turns of a conversation, mean over the turns; 0 without any."""
  turns = [len(m["content"].split()) for m in messages if m["role"] == "assistant"]
  return sum(turns) / len(turns) if turns else 0.0


def feature(name: str, messages: Any, trace: Any) -> float:
  """The feature of that name, one of FEATURES, of one side of a battle."""
  if name == "response_length":
    return response_length(messages)
  found = list(addresses(trace))
  if name == "citation_count":
    return float(len(found))
  return float(any(source_of(address) == name.removeprefix("cites_") for address in found))
