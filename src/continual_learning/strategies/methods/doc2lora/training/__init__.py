"""Training of document hypernetworks: teacher and student are one frozen base.

settings.py    the settings of a run
data.py        documents with questions: made-up facts, and files in SQuAD format
targets.py     what the student should say: gold answers, the teacher's answers and top tokens, the base's own
student.py     the base with adapters and without documents, and its loss
probe.py       does the adapter depend on the document? matched, mismatched, none, in the prompt
ladder.py      one fact, eight, thirty-two, a passage: how much is internalised
run.py         the loop: resumable, on one device or several
"""
