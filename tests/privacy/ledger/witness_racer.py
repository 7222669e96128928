"""Two processes that ask one witness for forks of one journal at the same moment. Prints what each got, as JSON.

python witness_racer.py PATH ROUNDS
"""

from __future__ import annotations

import json
import os
import sys

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from privacy.ledger.merkle import Tree, leaf_hash
from privacy.ledger.notes import Checkpoint, Note, Signer
from privacy.ledger.witness import LocalWitness, WitnessConflict, WitnessRefused

COMMON = [leaf_hash(b"%d" % i) for i in range(5)]


def checkpoint(tree, origin, signer):
    text = Checkpoint(origin, tree.size, tree.root()).text
    return Note(text, (signer.sign_note(text),)).render()


def racer(witness, origin, signer, number, gate):
    """Fork a child that waits for the gate and asks; return its pid and the pipe on which it says what it got."""
    read, write = os.pipe()
    if pid := os.fork():
        os.close(write)
        return pid, read
    try:
        tree = Tree()
        # Either fork is honest about the common beginning: nothing but the witness's memory speaks against it. In odd
        # rounds they have one size, else two.
        tree.extend([*COMMON, *[leaf_hash(b"fork %d" % number)] * (1 + number * (len(origin) % 2))])
        note = checkpoint(tree, origin, signer)
        os.close(gate[1])
        os.read(gate[0], 1)
        try:
            said = witness.add_checkpoint(old_size=5, proof=tree.consistency_proof(5, tree.size), note=note)
        except (WitnessConflict, WitnessRefused) as error:
            said = f"{type(error).__name__} {error.size}"
        os.write(write, said.encode())
    finally:
        os._exit(0)


def race(path, rounds):
    signer = Signer("log", Ed25519PrivateKey.generate())
    origins = ["log" + "+" * number for number in range(rounds)]
    witness = LocalWitness(
        path, Signer("witness", Ed25519PrivateKey.generate()), dict.fromkeys(origins, signer.verifier)
    )
    results = []
    for origin in origins:
        tree = Tree()
        tree.extend(COMMON)
        witness.add_checkpoint(old_size=0, proof=(), note=checkpoint(tree, origin, signer))
        gate = os.pipe()
        children = [racer(witness, origin, signer, number, gate) for number in range(2)]
        os.close(gate[0])
        os.close(gate[1])  # both read the end of the file, and start
        said = []
        for pid, pipe in children:
            with os.fdopen(pipe) as stream:
                said.append(stream.read())
            os.waitpid(pid, 0)
        results.append({"said": said, "last": witness.latest(origin).text, "vkey": witness.vkey})
    return results


if __name__ == "__main__":
    print(json.dumps(race(sys.argv[1], int(sys.argv[2]))))
