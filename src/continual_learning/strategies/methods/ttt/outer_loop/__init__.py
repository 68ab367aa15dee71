"""The outer loop: initial values from which a few steps of ttt's inner loop recite a passage.

    V_T   = inner(V_0, passage)                       T steps of the inner loop (`inner_loop.Course`), at most five
    V_0  <- V_0 - rate * d/d V_0 L(passage; V_T)      through the last of these steps: second order

after MAML (Finn et al. 2017, arXiv 1703.03400), End-to-End Test-Time Training (arXiv 2512.23675, section 2.2) and
GradMem (arXiv 2603.13875), whose outer loss is this one: what the steps wrote is to be reconstructed. V_0 are the
output weights of the neurons of one branch per block, the same for every passage; all other weights stay as they are.

    config.py      the settings
    passages.py    passages to train on and to validate on, with what the frozen blocks make of them
    gradient.py    the outer loss and its gradient through the steps
    run.py         steps, validation, resuming
    run_folder.py  a run's files on disk
    processes.py   one process, or several through Hugging Face accelerate
"""
