"""The numbers by which a network is data, which lowering writes and kernels and twins read. This imports nothing."""

# The columns of ``ops`` (n, COLUMNS), one row an op:
#   KIND             LINEAR, a product; OPERATION, which has a name in ``names``; or ADD, of an earlier node
#   INPUTS, OUTPUTS
#   WEIGHT           where its parameters start in the flat buffer: the weight of a linear op
#   BIAS_AT          where the bias of a linear op starts, -1 for none
#   SETTINGS         where its settings start in ``settings``, and how many they are
#   N_SETTINGS
#   SLOPE_AT         of a linear op whose output is rectified: where the slope for negative numbers is, -1 for none
#   KEEPS            what an operation's backward pass takes, whether it draws, and of any op whether it is frozen: bits
#   KEPT             how many numbers of its own for each row a kernel keeps, which no twin does
#   PARAMETERS       how many parameters an operation has
#   SOURCE           of an ADD: the node, that is the op whose input it is, that is added to its input
#   SUMS             how many units a kernel sums over a batch, in memory that it keeps, 0 for an op of single rows
KIND, INPUTS, OUTPUTS, WEIGHT, BIAS_AT, SETTINGS, N_SETTINGS, SLOPE_AT, KEEPS, KEPT, PARAMETERS = range(11)
SOURCE, SUMS = range(11, 13)
COLUMNS = 13
LINEAR, OPERATION, ADD = range(3)
KEEPS_X, KEEPS_Y, TAKES_KEY, FROZEN = 1, 2, 4, 8

# Parameters start at multiples of so many elements in the flat buffer, so that vectors of any CPU load them aligned.
STRIDE = 16

# The columns of ``spans`` (k, SPAN), the parameters of operations: the op, which of its parameters, where it starts,
# its elements, whether a rule updates it (1) or not (0), and, where a batch has a gradient for some rows alone, the
# elements of a row, else 0.
OP, WHICH, START, LENGTH, TRAINED, ROW = range(6)
SPAN = 6
