"""Flower as one more carrier of orders: a network that runs Flower offers, runs and takes back jobs over it.

`bundle`      the Flower app, without code: it names the two modules below, which are installed at each end
`client`      the ClientApp: hands an order to the agent of its machine, and its answer back
`server`      the ServerApp: runs one job, and says how it ended
`submitting`  a researcher's side, over Flower's own command line

Flower itself is imported only by the two apps, inside Flower's processes.
"""
