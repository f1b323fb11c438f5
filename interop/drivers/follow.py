"""A browser without a user, as `BROWSER`: opens the address it is given and goes where that leads."""

import sys
import urllib.error
import urllib.request

try:
    urllib.request.urlopen(sys.argv[1], timeout=20).read()
except urllib.error.HTTPError as refused:
    # A page like any other: what it says is for its readers.
    print(refused, file=sys.stderr)
