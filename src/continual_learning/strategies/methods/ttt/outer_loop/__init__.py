"""The outer loop of TTT-E2E: initial branches from which a few steps on a passage answer questions about it.

    phi_T   = inner(phi_0, passage)                 T steps of ttt's own inner loop on its training examples
    phi_0  <- phi_0 - rate * d/d phi_0 L(questions of the passage; phi_T)

after End-to-End Test-Time Training (arXiv 2512.23675, section 2.2), MAML (Finn et al. 2017, arXiv 1703.03400),
Reptile (Nichol et al. 2018, arXiv 1803.02999) and Pre-Instruction-Tuning (Jiang et al. 2024, arXiv 2402.12847).
phi_0 are the weights of one branch per block (`dual_mlp.NeuronBranch`); the base stays frozen.

    config.py      the settings
    tasks.py       passages with questions, and the training examples of each
    gradients.py   the gradient of a passage's task with respect to phi_0, in four modes
    run.py         steps, validation, resuming
    run_folder.py  a run's files on disk
    processes.py   one process, or several through Hugging Face accelerate
"""
