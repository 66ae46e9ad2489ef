"""Whether an answer is a good one: by the part of speech and a word in common with the reference."""
import re

COMMON = set("a an the of or and to in by for with that which is are be as on at from it its this one who having not "
             "any used some into being something someone especially very than their other usually has was".split())


def words_of(text):
    return {w for w in re.findall(r"[^\W\d_]{3,}", text.lower()) if w not in COMMON}


def judge(pair, answer):
    """(right kind, a word of the reference in common): the kind is the part of speech, or what stands before the
    gloss; words are those of the gloss, without the name and common ones."""
    def parts(text):
        head, _, gloss = text.partition(": ")
        return head, gloss

    head, gloss = parts(pair["answer"])
    own_head, own_gloss = parts(answer)
    kind = own_head[len(pair["name"]):].strip() == head[len(pair["name"]):].strip()
    shared = (words_of(gloss) - words_of(pair["name"])) & words_of(own_gloss)
    return kind, bool(shared)
