"""Prompts that try to become markup, script, a request, or a command."""

from __future__ import annotations

MARKUP = (
    "<script>alert(1)</script>",
    "</script><script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "<img src='https://example.com/x.png'>",
    "<svg/onload=alert(1)>",
    "<svg><script href='data:,alert(1)'/></svg>",
    "<iframe srcdoc='<script>alert(1)</script>'></iframe>",
    "<iframe src=javascript:alert(1)>",
    "<body onload=alert(1)>",
    "<details open ontoggle=alert(1)>",
    "<input autofocus onfocus=alert(1)>",
    "<video><source onerror=alert(1)>",
    "<math><mi//xlink:href='data:x,<script>alert(1)</script>'>",
    "<link rel=stylesheet href=https://example.com/x.css>",
    "<style>@import 'https://example.com/x.css';*{display:none}</style>",
    "<base href=https://example.com/>",
    "<meta http-equiv=refresh content='0;url=https://example.com/'>",
    '<meta http-equiv=Content-Security-Policy content="script-src *">',
    "<form action=https://example.com/><button>go</button></form>",
    "<a href='javascript:alert(1)'>x</a>",
    "<object data=javascript:alert(1)>",
    "<embed src=javascript:alert(1)>",
    "<template><script>alert(1)</script></template>",
    "<noscript><p title='</noscript><img src=x onerror=alert(1)>'>",
    "<!--<img src='--><img src=x onerror=alert(1)//'>",
    "]]><script>alert(1)</script>",
    "&lt;script&gt;alert(1)&lt;/script&gt;",
    "&#60;img src=x onerror=alert(1)&#62;",
    "' onmouseover='alert(1)",
    '" onfocus="alert(1)" autofocus="',
    "`-alert(1)-`",
    "javascript:alert(1)",
    "data:text/html,<script>alert(1)</script>",
    "<script src=data/00000.js></script>",
    "<script type=module>import('https://example.com/')</script>",
)

SCRIPT = (
    "');alert(1);//",
    '"});alert(1);nebulaGallery.items(9,{"texts":[],"rows":[["',
    "\\u003cscript\\u003ealert(1)\\u003c/script\\u003e",
    "\\",
    "\u2028alert(1)\u2029",
    "${alert(1)} {{constructor.constructor('alert(1)')()}} <%= 7*7 %> #{7*7} {% debug %}",
    "__proto__ constructor hasOwnProperty toString",
)

TEXT = (
    "\u202egnp.exe\u202c and \u2066isolated\u2069",
    "Z\u0351\u036b\u0343\u036a\u0302\u036b\u033da\u0334\u0319l\u0321\u0353g\u0349o" * 20,
    "👩‍👩‍👧‍👦 🏳️‍🌈 🇩🇪 \U0001f469\U0001f3fd\u200d\U0001f52c",
    "a\x00b",
    "\x1b]0;title\x07\x1b[31mred\x1b[0m",
    "\x08\x7f\x9b2J\r\t",
    "\ud800 half of a character",
    "\ufeffzero\u200bwidth\u00ad",
    "x" * 100_000,
    "word " * 20_000,
    "مرحبا بالعالم - שלום עולם - 你好, 世界",
)

COMMAND = (
    "$(touch hacked)",
    "`touch hacked`",
    "'; touch hacked; '",
    "'\\''; touch hacked; '\\''",
    '"; touch hacked; "',
    "\\'; touch hacked; echo \\'",
    "a\ntouch hacked\n",
    "--help",
    "-o/tmp/hacked",
    "!! !$ ~ * ? [a] {a,b} $HOME ${IFS} # & | ; < > ( )",
    "a\\nb\\",
    "%n%s %USERPROFILE%",
)

HOSTILE = MARKUP + SCRIPT + TEXT + COMMAND
