"""Base URIs that lead, or try to, where no caller may go: for every layer that must refuse them."""

# ruff: noqa: E501, RUF001, SIM905 - tables of hosts, in whose characters the attack lies

from __future__ import annotations

HOSTS = """
127.0.0.1 127.0.0.2 127.1 127.0.1 127.255.255.254 2130706433 0x7f000001 0x7F.0.0.1 0x7f.1 017700000001
0177.0.0.1 0177.0.0.01 127.0.0.01 00127.0.0.1 127.000.000.001 0.0.0.0 0 0x0 00 0.0 10.0.0.1 10.1
172.16.0.1 172.31.255.255 192.168.0.1 192.168.1 3232235521 169.254.169.254 2852039166 0xa9fea9fe
0251.0376.0251.0376 169.254.43518 169.254.170.2 100.64.0.1 100.100.100.200 168.63.129.16
192.0.0.1 192.0.0.192 192.0.2.1 192.88.99.1 198.18.0.1 198.51.100.1 203.0.113.1 224.0.0.1
239.255.255.250 240.0.0.1 255.255.255.255 1.2.3 1.2.3.4.5 256.256.256.256 8.8.8.8.9 1e1.0x7f
""".split()
"""IPv4, and what some resolver takes for it."""
WIDE_HOSTS = """
127。0。0。1 127．0．0．1 127｡0｡0｡1 １２７.０.０.１ ①②⑦.⓪.⓪.① ⑯⑨。②⑤④。⑯⑨。②⑤④ ｌｏｃａｌｈｏｓｔ ⓛⓞⓒⓐⓛⓗⓞⓢⓣ
ｍetadata.google.internal localho\N{LATIN SMALL LETTER LONG S}t １0.0.0.1 ０x7f000001 127.0.0.1\N{SOFT HYPHEN}
127.0.0.\N{ZERO WIDTH SPACE}1 ١٢٧.0.0.1 𝟏𝟐𝟕.𝟎.𝟎.𝟏 api.openai.com⁄evil api．openai．com．
""".split()
"""The same in characters that are normalised to others."""
IPV6 = """
::1 :: ::ffff:127.0.0.1 ::ffff:7f00:1 ::ffff:a9fe:a9fe ::127.0.0.1 ::7f00:1 0:0:0:0:0:0:0:1
0000::1 ::0001 fd00:ec2::254 fd20:ce::254 fc00::1 fe80::1 fe80::1%25eth0 fe80::1%eth0 fec0::1
64:ff9b::7f00:1 64:ff9b::127.0.0.1 64:ff9b::a9fe:a9fe 64:ff9b:1::1 2002:7f00:1:: 2002:a9fe:a9fe::
2001::1 2001:0:7f00:1::1 2001:10::1 2001:20::1 2001:db8::1 3fff::1 5f00::1 100::1 ff02::1 ff0e::1
2606:4700:0:0::1111 2606:4700::1111%25lo 2606:4700::1111%lo ::ffff:8.8.8.8 ::ffff:808:808
::8.8.8.8 v1.fe80 1 ] 127.0.0.1
""".split()
"""IPv6, to stand in brackets."""
NAMES = """
localhost LOCALHOST localhost. localhost.. localhost.localdomain foo.localhost 127.0.0.1. 8.8.8.8.
ip6-localhost router printer.local db.internal metadata.google.internal metadata.google.internal.
metadata.goog METADATA.azure.internal instance-data instance-data.ec2.internal metadata vllm
kubernetes.default.svc kubernetes.default.svc.cluster.local nas.lan wiki.corp host.docker.internal
1.0.0.127.in-addr.arpa api.openai.com. .api.openai.com api..openai.com -evil.com evil-.com e%76il.com
127.0.0.1%00.openai.com a.com%2f@b.com a!b.com a*b.com a,b.com a;b.com a+b.com xn--.com。
""".split()
"""Names of what is near, and what is no name."""
URIS = [
    "",
    "/",
    "//127.0.0.1",
    "127.0.0.1",
    "api.openai.com",
    "https:",
    "https:/",
    "https://",
    "https:///etc/passwd",
    "https:127.0.0.1",
    "https:/127.0.0.1",
    "https:\\\\127.0.0.1",
    "https://?",
    "https://#",
    "http://api.openai.com",
    "HTTP://api.openai.com",
    "http://api.openai.com:443",
    "ftp://api.openai.com",
    "gopher://127.0.0.1:6379/_PING",
    "file:///etc/passwd",
    "file://localhost/etc/passwd",
    "unix:///var/run/docker.sock",
    "http+unix://%2Fvar%2Frun%2Fdocker.sock",
    "dict://127.0.0.1:11211/stats",
    "ldap://127.0.0.1",
    "jar:https://api.openai.com!/",
    "data:text/plain,hi",
    "javascript:alert(1)",
    "ws://api.openai.com",
    "wss://api.openai.com",
    "https+insecure://api.openai.com",
    "https://api.openai.com@127.0.0.1",
    "https://api.openai.com@127.0.0.1/v1",
    "https://api.openai.com:443@127.0.0.1",
    "https://user:password@api.openai.com",
    "https://@api.openai.com",
    "https://api.openai.com\\@127.0.0.1",
    "https://127.0.0.1\\@api.openai.com",
    "https://api.openai.com\\.evil.com",
    "https://127.0.0.1#@api.openai.com",
    "https://127.0.0.1?@api.openai.com",
    "https://evil#@api.openai.com",
    "https://api.openai.com#fragment",
    "https://api.openai.com?query=1",
    "https://api.openai.com/v1?api-version=1",
    "https://api.openai.com/v1#x",
    "https://api.openai.com:80",
    "https://api.openai.com:8443",
    "https://api.openai.com:22",
    "https://api.openai.com:6379",
    "https://api.openai.com:0",
    "https://api.openai.com:65536",
    "https://api.openai.com:99999999",
    "https://api.openai.com:",
    "https://api.openai.com:-1",
    "https://api.openai.com:4e2",
    "https://api.openai.com:443:443",
    "https://api.openai.com:443:80",
    "https://api.openai.com:４４３",
    "https://api.openai.com: 443",
    "https://api.openai.com:0443443",
    "https://[::1]:6379",
    "https://[::1",
    "https://::1",
    "https://[::1]x",
    "https://[::1].openai.com",
    "https://[]",
    "https://[127.0.0.1]",
    "https://[api.openai.com]",
    "https://api.openai.com /v1",
    "https://api.open\tai.com",
    "https:// api.openai.com",
    "https://api.openai.com/a b",
    "https://api.openai.com/\N{NO-BREAK SPACE}x",
    "https://api.openai.com/<script>",
    'https://api.openai.com/"',
    "https://api.openai.com/^",
    "https://api.openai.com/`id`",
    "https://api.openai.com/{x}",
    "https://api.openai.com/ü",
    "https://api.openai.com/..",
    "https://api.openai.com/../v1",
    "https://api.openai.com/v1/../../x",
    "https://api.openai.com/./v1",
    "https://api.openai.com/%2e%2e/v1",
    "https://api.openai.com/%2E./v1",
    "https://api.openai.com/a%2f..%2fb",
    "https://api.openai.com/a%5c..%5cb",
    "https://api.openai.com/v1/..\\..\\x",
    "https://" + "a" * 64 + ".com",
    "https://" + "a." * 130 + "com",
    "https://" + "ü" * 200 + ".com",
    "https://api.openai.com/" + "a" * 2_000,
    "https://" + "ü" * 2_000 + ".com",
]
"""Whole URIs that are none, or not of a place that is called."""
REFUSED = [
    *(uri for uri in URIS if uri),
    *(f"https://{host}" for host in (*HOSTS, *WIDE_HOSTS, *NAMES)),
    *(f"https://[{address}]/v1" for address in IPV6),
]
"""Every one must be refused before anything is looked up, connected or held."""
