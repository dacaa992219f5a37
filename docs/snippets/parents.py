from musubito import StepConfiguration, musubito_merge, musubito_step


@musubito_step
def find(source: str) -> str:
    return f"found in {source}"


@musubito_step
def strict(text: str) -> str:
    print("strict runs")
    return text


@musubito_step(StepConfiguration(allow_cross_parent_reuse=True))
def shared(text: str) -> str:
    print("shared runs")
    return text


for source in ("the web", "a book"):
    print(source)
    with musubito_merge(find(source)):
        strict("the same text")
        shared("the same text")
