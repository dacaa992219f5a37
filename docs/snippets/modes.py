from musubito import NotReplayed, musubito_step, run, use_musubito_engine


@musubito_step(name="double")
def double(number: int) -> int:
    print("double runs")
    return 2 * number


print("replay")
double(1)
double(1)
print("refresh")
with run(mode="refresh"):
    double(1)
print("off")
with run(mode="off"):
    double(1)
with use_musubito_engine(None):
    double(1)
print("replay_only")
with run(mode="replay_only"):
    double(1)
    try:
        double(2)
    except NotReplayed as error:
        print(error)
