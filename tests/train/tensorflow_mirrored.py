"""A rank of TensorFlow's MultiWorkerMirroredStrategy: runs in an environment of its own, without the workbench. See docs/tensorflow.md."""

import contextlib
import json
import os
import socket

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", os.environ["OMP_NUM_THREADS"])  # the gang's share of the machine's cores
import numpy as np
import tensorflow as tf

LOST = (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError, tf.errors.DeadlineExceededError)
"""What TensorFlow raises in a rank whose peer is gone."""


@contextlib.contextmanager
def meeting(control, argument):
    """Tell TensorFlow who is who: each rank finds a free port, and all exchange where they will listen."""
    with socket.socket() as found:
        found.bind((argument["host"], 0))
        address = f"{argument['host']}:{found.getsockname()[1]}"
    addresses = control.exchange(address)
    os.environ["TF_CONFIG"] = json.dumps({"cluster": {"worker": addresses}, "task": {"type": "worker", "index": control.rank}})
    try:
        yield
    except LOST as error:
        error.peer = True  # tells of a lost connection, not of the work: the gang starts again
        raise


def train(control, plan):
    """Least squares, its gradients summed over the ranks; goes on from the checkpoint that the plan names, if there is one."""
    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    with strategy.scope():
        weights = tf.Variable(tf.zeros([4, 1]), name="weights")
    first = 0
    if os.path.exists(plan["checkpoint"]):
        with np.load(plan["checkpoint"]) as kept:
            first = int(kept["step"])
            weights.assign(kept["weights"])

    @tf.function
    def step_of(inputs, wanted):
        def one(inputs, wanted):
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean(tf.square(inputs @ weights - wanted))
            gradient = tape.gradient(loss, weights)
            context = tf.distribute.get_replica_context()
            weights.assign_sub(0.1 * context.all_reduce(tf.distribute.ReduceOp.MEAN, gradient))
            return loss

        return strategy.reduce(tf.distribute.ReduceOp.MEAN, strategy.run(one, args=(inputs, wanted)), axis=None)

    true = np.array([[1.0], [-2.0], [3.0], [0.5]], np.float32)
    step, loss = first, None
    for step in range(first + 1, plan["steps"] + 1):
        control.begin(step)  # the gang may hold, pause or stop the ranks here, all at the same step
        drawn = np.random.default_rng([step, control.rank])  # what a rank reads is a function of step and rank
        inputs = drawn.normal(size=(16, 4)).astype(np.float32)
        loss = float(step_of(tf.constant(inputs), tf.constant(inputs @ true)))
        stopping = control.stop_at is not None and step >= control.stop_at
        if control.rank == 0:
            control.send("step", step=step, loss=loss)
            if step % plan["every"] == 0 or stopping:
                partial = plan["checkpoint"] + ".partial.npz"
                np.savez(partial, step=step, weights=weights.numpy())
                os.replace(partial, plan["checkpoint"])
        if stopping:
            break
    return {"step": step, "loss": loss, "weights": weights.numpy().ravel().tolist(), "ranks": strategy.num_replicas_in_sync,
            "framework": tf.__version__}
