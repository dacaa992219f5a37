"""A method of the user's object counts only if reached code has its name, or may reach the object in other ways."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from tests.soundness.changed_programs import Program, in_three_processes


def made(step: str, methods: str = "", before: str = "", after: str = "") -> Program:
    """A program with an object whose method `go` is edited."""
    text = (
        f"{before}\nclass A:\n    size = 3\n    def go(self): return VALUE\n    def run(self): return 1\n"
        f"    def show(self): return self.size\n{methods}\nheld = A()\n{after}\ndef step(q): {step}"
    )
    return Program(text, "1", "2")


def of_a_class(step: str, text: str) -> Program:
    """A program of which all is given but the step."""
    return Program(f"{text}\ndef step(q): {step}", "1", "2")


UNREAD: Final = {
    "a method that its constructor called": made("return held.run()", "    def __init__(self): self.x = self.go()"),
    "another method": made("return held.run()"),
    "a method that reads a field": made("return held.show()"),
    "a bound method that is called by others": made(
        "return list(map(held.run2, [q]))", "    def run2(self, q): return q"
    ),
    "a class attribute": made("return held.size"),
    "a field of a field": made("return outer.a.run()", after="class B: pass\nouter = B()\nouter.a = held"),
    "a method of a base": of_a_class(
        "return held.run()",
        "class A:\n    def go(self): return VALUE\nclass B(A):\n    def run(self): return 1\nheld = B()",
    ),
    "a method beside a thread": made(
        "\n    t = threading.Thread(target=held.run)\n    t.start(); t.join()", before="import threading"
    ),
}
READ: Final = {
    "a new object": made("return A().x", "    def __init__(self): self.x = self.go()"),
    "a new object, made by a package": made(
        "return D['k'].x",
        "    def __init__(self): self.x = self.go()",
        "import collections",
        "D = collections.defaultdict(A)",
    ),
    "its constructor": made("return held.__init__()", "    def __init__(self): self.x = self.go()"),
    "the constructor of its base": of_a_class(
        "return held.again()",
        "class A:\n    def __init__(self): self.x = self.go()\n    def go(self): return VALUE\n"
        "class B(A):\n    def again(self): super().__init__()\nheld = B()",
    ),
    "what its constructor has set": made("return held.x", "    def __init__(self): self.x = self.go()"),
    "the method": made("return held.go()"),
    "another method": made("return held.way()", "    def way(self): return self.go()"),
    "two methods on": made(
        "return held.way()", "    def way(self): return self.on()\n    def on(self): return self.go()"
    ),
    "its literal name": made("return getattr(held, 'go')()"),
    "its name in a constant": made("return getattr(held, NAME)()", before="NAME = 'go'"),
    "its name among others": made("return [getattr(held, each)() for each in ('run', 'go')]"),
    "a computed name": made("return g(held, 'g' + 'o')()", before="g = getattr"),
    "a computed name, from inside": made(
        "return held.way('g')", "    def way(self, x): return getattr(self, x + 'o')()"
    ),
    "methodcaller": made("return G(held)", before="from operator import methodcaller\nG = methodcaller('go')"),
    "attrgetter": made("return G(held)()", before="from operator import attrgetter\nG = attrgetter('go')"),
    "attrgetter, from inside": made(
        "return held.way()",
        "    def way(self): return G(self)()",
        "from operator import attrgetter\nG = attrgetter('go')",
    ),
    "the members of its class": made("return vars(type(held))['g' + 'o'](held)"),
    "the members of its class, from inside": made(
        "return held.way()", "    def way(self): return vars(type(self))['g' + 'o'](self)"
    ),
    "the members of its class, by dir": made(
        "return held.way()", "    def way(self): return [getattr(self, n)() for n in dir(self) if n[0] == 'g']"
    ),
    "the members of its class, by inspect": made(
        "return held.way()",
        "    def way(self): return [f() for n, f in inspect.getmembers(self, inspect.ismethod) if n[0] == 'g']",
        "import inspect",
    ),
    "its class": made("return A.go(held)"),
    "its class, by type": made("return type(held).go(held)"),
    "a map of its class": made("return list(map(A.go, [held]))"),
    "a helper": made("return use(held)", before="def use(x): return x.go()"),
    "a helper that gets the receiver": made(
        "return held.way()", "    def way(self): return use(self)", "def use(x): return x.go()"
    ),
    "a package": made(
        "\n    out = io.StringIO()\n    shutil.copyfileobj(held, out)\n    return out.getvalue()",
        "    left = 1\n    def read(self, size=0):\n        self.left, was = 0, self.left\n        return str(VALUE) * was",
        "import io, shutil",
    ),
    "a package that gets the receiver": made(
        "return held.way()",
        "    def way(self):\n        with contextlib.closing(self): return 1\n    def close(self): seen.append(VALUE)",
        "import contextlib\nseen = []",
    ),
    "a package that gets what holds it": made(
        "\n    with contextlib.closing(*L): return 1",
        "    def close(self): seen.append(VALUE)",
        "import contextlib\nseen = []",
        "L = [held]",
    ),
    "a package that makes it": made(
        "\n    with contextlib.closing(A()): return 1",
        "    def close(self): seen.append(VALUE)",
        "import contextlib\nseen = []",
    ),
    "a package's function that holds it": made(
        "return P()",
        "    def read(self, size=0): return ''",
        "import functools, shutil, io",
        "P = functools.partial(shutil.copyfileobj, held, io.StringIO())",
    )._replace(first="''", other="' '"),
    "a package that gets another one": made(
        "\n    with contextlib.closing(held.way()): return 1",
        "    def close(self): seen.append(VALUE)\n    def way(self): return type(self)()",
        "import contextlib\nseen = []",
    ),
    "a package that gets another one, by its class": made(
        "\n    with contextlib.closing(held.way()): return 1",
        "    def close(self): seen.append(VALUE)\n    def way(self): return self.__class__()",
        "import contextlib\nseen = []",
    ),
    "a package that gets another one, by its class from outside": made(
        "\n    with contextlib.closing(held.__class__()): return 1",
        "    def close(self): seen.append(VALUE)",
        "import contextlib\nseen = []",
    ),
    "a package that gets what a method returns": made(
        "\n    with contextlib.closing(held.way()): return 1",
        "    def close(self): seen.append(VALUE)\n    def way(self): return self",
        "import contextlib\nseen = []",
    ),
    "a package that gets what a method yields": made(
        "\n    with contextlib.closing(next(held.way())): return 1",
        "    def close(self): seen.append(VALUE)\n    def way(self): yield self",
        "import contextlib\nseen = []",
    ),
    "a package that gets what a function in a method returns": made(
        "\n    with contextlib.closing(held.way()()): return 1",
        "    def close(self): seen.append(VALUE)\n    def way(self): return lambda: self",
        "import contextlib\nseen = []",
    ),
    "a package that gets one of a class in a field": made(
        "\n    with contextlib.closing(held.way()): return 1",
        "    def close(self): seen.append(VALUE)\n    kind = None\n    def way(self): return self.kind()",
        "import contextlib\nseen = []",
        "held.kind = A",
    ),
    "a package that gets one of a class in a class": made(
        "\n    with contextlib.closing(held.way()): return 1",
        "    def close(self): seen.append(VALUE)\n    def way(self): return self.kind()",
        "import contextlib\nseen = []",
        "A.kind = A",
    ),
    "a package that gets a field of another object": made(
        "\n    with contextlib.closing(outer.get()): return 1",
        "    def close(self): seen.append(VALUE)",
        "import contextlib\nseen = []",
        "class B:\n    def get(self): return self.a\nouter = B()\nouter.a = held",
    ),
    "a package that gets what a class method makes": made(
        "\n    with contextlib.closing(A.way()): return 1",
        "    def close(self): seen.append(VALUE)\n    @classmethod\n    def way(cls): return cls()",
        "import contextlib\nseen = []",
    ),
    "a package that gets what a class method of an object makes": made(
        "\n    with contextlib.closing(held.way()): return 1",
        "    def close(self): seen.append(VALUE)\n    @classmethod\n    def way(cls): return cls()",
        "import contextlib\nseen = []",
    ),
    "a package that gets one of a subclass": of_a_class(
        "\n    with contextlib.closing(B()): return 1",
        "import contextlib\nseen = []\nclass A:\n    def close(self): seen.append(VALUE)\nclass B(A): pass",
    ),
    "a package that gets one of a class that is found": of_a_class(
        "\n    with contextlib.closing(T['x']()): return held.run()",
        "import contextlib\nseen = []\nclass A:\n    def close(self): seen.append(VALUE)\n    def run(self): return 1\n"
        "held = A()\nT = {'x': A}",
    ),
    "a decorator that hands on the receiver": made(
        "return held.way()",
        "    def close(self): seen.append(VALUE)\n    @deco\n    def way(self): return 1",
        "import contextlib, functools, operator, types, typing\nseen = []\ndef deco(f):\n    def w(self, *a):\n        with contextlib.closing(self): return f(self, *a)\n    return w",
        "",
    ),
    "a decorator that hands on all that it is given": made(
        "return held.way()",
        "    def close(self): seen.append(VALUE)\n    @deco\n    def way(self): return 1",
        "import contextlib, functools, operator, types, typing\nseen = []\ndef deco(f):\n    @functools.wraps(f)\n    def w(*a):\n        with contextlib.closing(a[0]): return f(*a)\n    return w",
        "",
    ),
    "a method from elsewhere": made(
        "return held.way()",
        "    def close(self): seen.append(VALUE)\n",
        "import contextlib, functools, operator, types, typing\nseen = []",
        "def way(self):\n    with contextlib.closing(self): return 1\nA.way = way",
    ),
    "a method of another class": made(
        "return held.way()",
        "    def close(self): seen.append(VALUE)\n    way = B.way",
        "import contextlib, functools, operator, types, typing\nseen = []\nclass B:\n    def way(self):\n        with contextlib.closing(self): return 1",
        "",
    ),
    "a method of one object": made(
        "return held.way()",
        "    def close(self): seen.append(VALUE)\n",
        "import contextlib, functools, operator, types, typing\nseen = []",
        "def way(self):\n    with contextlib.closing(self): return 1\nheld.way = types.MethodType(way, held)",
    ),
    "a class decorator": made(
        "return held.way()",
        "    def close(self): seen.append(VALUE)\n",
        "import contextlib, functools, operator, types, typing\nseen = []",
        "def deco(c):\n    def way(self):\n        with contextlib.closing(self): return 1\n    c.way = way\n    return c\nA = deco(A)",
    ),
    "a receiver among all arguments": made(
        "return held.way()",
        "    def close(self): seen.append(VALUE)\n    def way(*a):\n        with contextlib.closing(a[0]): return 1",
        "import contextlib, functools, operator, types, typing\nseen = []",
        "",
    ),
    "a descriptor": made(
        "return held.way",
        "    def close(self): seen.append(VALUE)\n    way = D()",
        "import contextlib, functools, operator, types, typing\nseen = []\nclass D:\n    def __get__(self, o, t):\n        with contextlib.closing(o): return 1",
        "",
    ),
    "a property of a package's function": made(
        "return held.way",
        "    def close(self): seen.append(VALUE)\n    way = property(lambda self: contextlib.closing(self).__exit__())",
        "import contextlib, functools, operator, types, typing\nseen = []",
        "",
    ),
    "a property of methodcaller": made(
        "return held.way",
        "    def close(self): seen.append(VALUE)\n    way = property(operator.methodcaller('close'))",
        "import contextlib, functools, operator, types, typing\nseen = []",
        "",
    ),
    "a cached property of methodcaller": made(
        "return held.way",
        "    def close(self): seen.append(VALUE)\n    way = functools.cached_property(operator.methodcaller('close'))\n    way.__set_name__(None, 'way')",
        "import contextlib, functools, operator, types, typing\nseen = []",
        "",
    ),
    "a field by getattr": made(
        "\n    with contextlib.closing(getattr(o, 'a')): return 1",
        "    def close(self): seen.append(VALUE)\n",
        "import contextlib, functools, operator, types, typing\nseen = []",
        "class O: pass\no = O()\no.a = held",
    ),
    "a field of the receiver by getattr": made(
        "return o.way()",
        "    def close(self): seen.append(VALUE)\n",
        "import contextlib, functools, operator, types, typing\nseen = []",
        "class O:\n    def way(self):\n        with contextlib.closing(getattr(self, 'a')): return 1\no = O()\no.a = held",
    ),
    "a field in a pattern": made(
        "return o.way()",
        "    def close(self): seen.append(VALUE)\n",
        "import contextlib, functools, operator, types, typing\nseen = []",
        "class O:\n    def way(self):\n        match self:\n            case O(a=x):\n                with contextlib.closing(x): return 1\no = O()\no.a = held",
    ),
    "the receiver of a bound method": made(
        "\n    with contextlib.closing(held.run.__self__): return 1",
        "    def close(self): seen.append(VALUE)\n",
        "import contextlib, functools, operator, types, typing\nseen = []",
        "",
    ),
    "the receiver of a bound method that is held": made(
        "\n    with contextlib.closing(T[0].__self__): return 1",
        "    def close(self): seen.append(VALUE)\n",
        "import contextlib, functools, operator, types, typing\nseen = []",
        "T = [held.run]",
    ),
    "a protocol": of_a_class(
        "return isinstance(held, P)",
        "import typing\n@typing.runtime_checkable\nclass P(typing.Protocol):\n    def go1(self): ...\n"
        "class A:\n    def goVALUE(self): return 1\nheld = A()",
    ),
    "a base, handed on": of_a_class(
        "return held.way()",
        "import contextlib\nseen = []\nclass A:\n    def close(self): seen.append(VALUE)\n"
        "class B(A):\n    def way(self):\n        with contextlib.closing(super()): return 1\nheld = B()",
    ),
    "print": made(
        "print(q, file=held)", "    def write(self, text): seen.append(VALUE)\n    def flush(self): pass", "seen = []"
    ),
    "a proxy": made(
        "return proxy.go()",
        after="class P:\n    def __init__(self, x): self.x = x\n    def __getattr__(self, n): return getattr(self.x, n)\n"
        "proxy = P(held)",
    ),
    "a weak proxy": made("return p.go()", before="import weakref", after="p = weakref.proxy(held)"),
    "a weak reference": made("return p().go()", before="import weakref", after="p = weakref.ref(held)"),
    "a weak method": made("return w()()", before="import weakref", after="w = weakref.WeakMethod(held.go)"),
    "a table of bound methods": made("return T['x']()", after="T = {'x': held.go}"),
    "a table of functions": made(
        "return T['g' + 'o'](held)",
        before="T = {}\ndef keep(f):\n    T[f.__name__] = f\n    return f",
        methods="    @keep\n    def go(self): return VALUE",
    ),
    "a default": made("return f()", after="def f(h=held.go): return h()"),
    "an alias in its class": made("return held.way()", "    way = go"),
    "a partial method": made("return held.way()", "    way = functools.partialmethod(go)", "import functools"),
    "a cached property": made(
        "return held.way", "    @functools.cached_property\n    def way(self): return self.go()", "import functools"
    ),
    "a property": made("return held.way", "    @property\n    def way(self): return self.go()"),
    "an operator": made("return held + 1", "    def __add__(self, other): return self.go()"),
    "a call": made("return held()", "    def __call__(self): return self.go()"),
    "a class method": made("return held.way()", "    @classmethod\n    def way(cls): return cls().go()"),
    "a class that is handed on": made(
        "return held.way()", "    @classmethod\n    def way(cls): return use(cls)", "def use(c): return c().go()"
    ),
    "a subclass": of_a_class(
        "return held.run()",
        "class A:\n    def run(self): return self.go()\nclass B(A):\n    def go(self): return VALUE\nheld = B()",
    ),
    "a base, by super": of_a_class(
        "return held.run()",
        "class A:\n    def go(self): return VALUE\nclass B(A):\n    def run(self): return super().go()\nheld = B()",
    ),
    "a base of a base": of_a_class(
        "return held.run()",
        "class A:\n    def go(self): return VALUE\nclass B(A): pass\nclass C(B):\n    def run(self): return self.go()\n"
        "held = C()",
    ),
    "an abstract base": of_a_class(
        "return held.run()",
        "import abc\nclass A(abc.ABC):\n    @abc.abstractmethod\n    def go(self): ...\n    def run(self): return self.go()\n"
        "class B(A):\n    def go(self): return VALUE\nheld = B()",
    ),
    "a base of a package": of_a_class(
        "return held.encode({q})",
        "import json\nclass A(json.JSONEncoder):\n    def default(self, o): return VALUE\nheld = A()",
    ),
    "a pattern": made("\n    match held:\n        case A(go=f): return f()"),
    "a position in a pattern": made("\n    match held:\n        case A(f): return f()", "    __match_args__ = ('go',)"),
    "a program in a text": made("return eval('held.go()')"),
    "a program in a text, with globals of its own": made("return eval('held.go()', {'held': held})"),
    "a program in a text, with globals and locals": made(
        "return eval('held.go()', builtins.__dict__, {'held': held})", before="import builtins"
    ),
    "a program in a text, with the globals of the module": made("return eval('held.go()', {**globals()})"),
    "a program in a text, with no globals": made("return eval('held.go()', None, {})"),
    "a program in a text, with globals of a variable": made("\n    names = None\n    return eval('held.go()', names)"),
    "its module": made("return sys.modules[__name__].held.go()", before="import sys"),
    "all of the module": made("return globals()['held'].go()"),
    "a field of a field": made("return outer.a.go()", after="class B: pass\nouter = B()\nouter.a = held"),
    "a thread": made(
        "\n    t = threading.Thread(target=held.way)\n    t.start(); t.join()",
        "    def way(self): seen.append(self.go())",
        "import threading\nseen = []",
    ),
    "a bound method of another object": made(
        "return T[0]()", "    def way(self): return self.go()", after="T = [held.way]"
    ),
    "a copy": made("return copy.copy(held).go()", before="import copy"),
    "a static method": made(
        "return held.way()", "    @staticmethod\n    def on(): return VALUE\n    def way(self): return self.on()"
    ),
    "a slot of a function": made("return f.h.go()", after="def f(): pass\nf.h = held"),
    "a context variable": made(
        "return V.get().go()", before="import contextvars", after="V = contextvars.ContextVar('V', default=held)"
    ),
}


def test_a_method_that_nobody_names_may_be_edited(tmp_path: Path) -> None:
    assert in_three_processes(tmp_path, UNREAD) == (set(UNREAD), set(), set(), {})


def test_a_method_that_may_be_called_counts(tmp_path: Path) -> None:
    runs = in_three_processes(tmp_path, READ)
    assert runs.failed == {}
    assert runs.other == set(READ)
    assert runs.again == set()
