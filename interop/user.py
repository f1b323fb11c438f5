#!/usr/bin/env python3
"""A user at a browser: opens a URL, signs in, agrees, and goes where that leads.

As a program it is what BROWSER names: `user.py URL`, with the account in LOGIN_USER and LOGIN_PASSWORD, and
LOGIN_DECISION=deny for one that does not agree. What belongs to the login stands in LOGIN_HOME: our origin, and that of
a provider. Every page must be a page: forms are found in its HTML, with the fields that are there. Cookies are kept as a
browser keeps them, by the standard library.
"""

import http.cookiejar
import os
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from html.parser import HTMLParser


class Forms(HTMLParser):
    """The forms of a page: action, fields as they would be sent, and the buttons."""

    def __init__(self, html):
        super().__init__()
        self.forms = []
        self.text = []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        if tag == "form":
            self.forms.append({"action": attrs.get("action", ""), "method": attrs.get("method", "get").lower(), "fields": {}, "buttons": []})
        elif tag == "input" and self.forms:
            kind = attrs.get("type", "text")
            if kind == "checkbox" and "checked" not in attrs:
                return
            if "name" in attrs:
                self.forms[-1]["fields"][attrs["name"]] = attrs.get("value", "on" if kind == "checkbox" else "")
        elif tag == "button" and self.forms and "name" in attrs:
            self.forms[-1]["buttons"].append((attrs["name"], attrs.get("value", "")))

    def handle_data(self, data):
        self.text.append(data.strip())


class Stop(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_):
        return None


class Told(Exception):
    """A page with nothing to do on it."""

    def __init__(self, status, page):
        self.status, self.text = status, " ".join(filter(None, page.text))
        super().__init__(f"HTTP {status}: {self.text[-400:]}")


class User:
    def __init__(self, name="", password="", decision="allow"):
        self.name, self.password, self.decision = name, password, decision
        self.jar = http.cookiejar.CookieJar()
        self.http = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPCookieProcessor(self.jar), Stop())
        self.pages = []

    def open(self, url, fields=None):
        data = urllib.parse.urlencode(fields).encode() if fields is not None else None
        try:
            response = self.http.open(urllib.request.Request(url, data), timeout=20)
        except urllib.error.HTTPError as error:
            response = error
        return response.status if hasattr(response, "status") else response.code, response.headers, response.read().decode()

    def follow(self, url, *homes):
        """Where a login that begins at `url` ends: the first URL that is at none of these homes."""
        fields = None
        for _ in range(15):
            status, headers, html = self.open(url, fields)
            fields = None
            if status in (301, 302, 303, 307, 308):
                url = urllib.parse.urljoin(url, headers["Location"])
                if not url.startswith(homes):
                    return url
                continue
            self.pages.append((status, html))
            page = Forms(html)
            wanted = self.fill_in(page.forms)
            if not wanted or status >= 400:
                raise Told(status, page)
            url, fields = urllib.parse.urljoin(url, wanted["action"]), wanted["fields"]
        raise AssertionError("the login does not end")

    def fill_in(self, forms):
        """The form that leads on: a password, ourselves among those whom a provider knows, or the decision."""
        for form in forms:
            if "password" in form["fields"]:
                form["fields"].update(user=self.name, password=self.password)
                return form
        mine = [form for form in forms if form["fields"].get("login") == self.name]
        for form in mine or forms:
            for name, value in form["buttons"]:
                if mine or value == self.decision:
                    form["fields"][name] = value
                    return form
        return None


def main():
    url = sys.argv[1]
    parts = urllib.parse.urlsplit(url)
    homes = os.environ.get("LOGIN_HOME", f"{parts.scheme}://{parts.netloc}/").split()
    user = User(os.environ.get("LOGIN_USER", ""), os.environ.get("LOGIN_PASSWORD", ""), os.environ.get("LOGIN_DECISION", "allow"))
    end = user.follow(url, *homes)
    for _ in range(50):  # Some applications open the browser first and listen then.
        try:
            status, _, _ = user.open(end)
            break
        except urllib.error.URLError:
            time.sleep(0.2)
    else:
        sys.exit(f"nobody listens at {end.split('?')[0]}")
    print(f"{status} {end.split('?')[0]}")
    sys.exit(0 if status < 400 else 1)


if __name__ == "__main__":
    main()
