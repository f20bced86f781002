import math

import torch

def merge_fits(n_a, mean_a, var_a, n_b, mean_b, var_b):
    share = n_b / (n_a + n_b)
    mean = torch.lerp(mean_a, mean_b, share)
    var = (1 - share) * (var_a + (mean_a - mean).square()) + share * (var_b + (mean_b - mean).square())
    return mean, var


def fuse(means, covs):
    precision, weighted = 0, 0
    for mean, cov in zip(means, covs):
        precision = precision + torch.inverse(cov)
        weighted = weighted + torch.linalg.solve(cov, mean)
    return torch.linalg.solve(precision, weighted), torch.inverse(precision)


def log_odds(x, a, b):
    def joint(part):
        std, mean = part.std(0, unbiased=False), part.mean(0)
        z = (x - mean) / std
        return math.log(len(part)) - (z * z / 2 + torch.log(std)).sum(-1)
    return joint(a) - joint(b)


def squeezed_log_prob(z, mu, L):
    x = mu + torch.einsum("ij,bj->bi", L, z)
    normal = torch.distributions.MultivariateNormal(mu, L @ L.T)
    slope = 2 * (math.log(2) - x - torch.nn.functional.softplus(-2 * x))
    return normal.log_prob(x) - slope.sum(-1)


def level_bits(k, mean, std, levels):
    infinite = torch.full_like(mean, math.inf)
    low = torch.where(k == 0, -infinite, (2 * k / levels - 1 - mean) / std)
    high = torch.where(k == levels - 1, infinite, (2 * (k + 1) / levels - 1 - mean) / std)
    mirror = low > -high
    low, high = torch.where(mirror, -high, low), torch.where(mirror, -low, high)
    a, b = torch.special.log_ndtr(low), torch.special.log_ndtr(high)
    return -(b + torch.log(-torch.expm1(a - b))).sum(1) / (k.shape[1] * math.log(2))
