def polite(given, before, after):
    return "lost" not in after["answer"] or "Sorry" in after["answer"]
