package org.deidentifier.arx;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;

import org.deidentifier.arx.framework.check.TransformationChecker;
import org.deidentifier.arx.framework.check.TransformationResult;
import org.deidentifier.arx.framework.data.DataManager;
import org.deidentifier.arx.framework.lattice.SolutionSpace;
import org.deidentifier.arx.metric.InformationLoss;

/** Asks ARX about every node of the lattice, without any pruning: the best score, and which nodes have it. */
public final class ArxExhaustive {
    private ArxExhaustive() {
    }

    public static String run(Data data, ARXConfiguration config, String[] quasi) {
        DataHandleInput handle = (DataHandleInput) data.getHandle();
        handle.getDefinition().materializeHierarchies(handle);
        handle.getRegistry().reset();
        DataManager manager = new DataManager(handle.header, handle.data, handle.dictionary, handle.getDefinition(),
                                              new HashMap<>(), config);
        handle.getRegistry().createInputSubset(config);
        handle.update(manager.getDataGeneralized().getArray(), manager.getDataAnalyzed().getArray());
        config.initialize(manager);
        int[] lowest = manager.getHierarchiesMinLevels(), highest = manager.getHierarchiesMaxLevels();
        SolutionSpace<?> space = SolutionSpace.create(lowest, highest);
        config.getQualityModel().initialize(manager, handle.getDefinition(), manager.getDataGeneralized(),
                                            manager.getHierarchies(), config);
        TransformationChecker checker = new TransformationChecker(manager, config.getQualityModel(),
                                                                  config.getInternalConfiguration(), 200, 0.2, 0.8, space);
        List<String> header = Arrays.asList(manager.getDataGeneralized().getHeader());
        int[] node = lowest.clone();
        InformationLoss<?> best = null;
        List<String> ties = new ArrayList<>();
        int feasible = 0;
        while (true) {
            TransformationResult result = checker.check(space.getTransformation(node.clone()));
            if (result.privacyModelFulfilled) {
                feasible++;
                int order = best == null ? -1 : result.informationLoss.compareTo(best);
                if (order < 0) ties.clear();
                if (order <= 0) {
                    best = result.informationLoss;
                    List<Integer> levels = new ArrayList<>();
                    for (String column : quasi) levels.add(node[header.indexOf(column)]);
                    ties.add(levels.toString());
                }
            }
            int column = node.length - 1;
            while (column >= 0 && node[column] == highest[column]) node[column] = lowest[column--];
            if (column < 0) break;
            node[column]++;
        }
        return ", \"n_feasible\": " + feasible + ", \"n_ties\": " + ties.size() + ", \"best_score\": " + best
               + ", \"ties\": " + ties.subList(0, Math.min(6, ties.size()));
    }
}
