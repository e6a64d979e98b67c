"""Learning from aggregated outcomes of trials.

`pkpd.evidence.table.table` reads published outcomes, one line each; the modules beside it compare
them with simulated patients, sample the parameters of the simulator, and criticise the result.
Nothing here knows how patients are simulated: a simulator is a function from parameters to arms.
"""
