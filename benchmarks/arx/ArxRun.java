import java.io.BufferedReader;
import java.io.File;
import java.io.FileReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.lang.management.ManagementFactory;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;

import org.deidentifier.arx.ARXAnonymizer;
import org.deidentifier.arx.ARXConfiguration;
import org.deidentifier.arx.ARXLattice.ARXNode;
import org.deidentifier.arx.ARXPopulationModel;
import org.deidentifier.arx.ARXResult;
import org.deidentifier.arx.ArxExhaustive;
import org.deidentifier.arx.AttributeType;
import org.deidentifier.arx.AttributeType.Hierarchy;
import org.deidentifier.arx.Data;
import org.deidentifier.arx.DataHandle;
import org.deidentifier.arx.DataSubset;
import org.deidentifier.arx.DataType;
import org.deidentifier.arx.criteria.AverageReidentificationRisk;
import org.deidentifier.arx.criteria.BasicBLikeness;
import org.deidentifier.arx.criteria.DDisclosurePrivacy;
import org.deidentifier.arx.criteria.DPresence;
import org.deidentifier.arx.criteria.DistinctLDiversity;
import org.deidentifier.arx.criteria.EnhancedBLikeness;
import org.deidentifier.arx.criteria.EntropyLDiversity;
import org.deidentifier.arx.criteria.EqualDistanceTCloseness;
import org.deidentifier.arx.criteria.HierarchicalDistanceTCloseness;
import org.deidentifier.arx.criteria.Inclusion;
import org.deidentifier.arx.criteria.KAnonymity;
import org.deidentifier.arx.criteria.KMap;
import org.deidentifier.arx.criteria.OrderedDistanceTCloseness;
import org.deidentifier.arx.criteria.PopulationUniqueness;
import org.deidentifier.arx.criteria.PrivacyCriterion;
import org.deidentifier.arx.criteria.RecursiveCLDiversity;
import org.deidentifier.arx.criteria.SampleUniqueness;
import org.deidentifier.arx.metric.Metric;
import org.deidentifier.arx.metric.Metric.AggregateFunction;
import org.deidentifier.arx.risk.RiskEstimateBuilder;
import org.deidentifier.arx.risk.RiskModelPopulationUniqueness;
import org.deidentifier.arx.risk.RiskModelPopulationUniqueness.PopulationUniquenessModel;
import org.deidentifier.arx.risk.RiskModelSampleRisks;
import org.deidentifier.arx.risk.RiskModelSampleSummary;

/**
 * Runs ARX on configurations read from standard input, one a line, and writes one JSON object a line.
 *
 * A line is a list of key=value pairs between blanks:
 *   id=NAME table=FILE.csv hierarchies=DIRECTORY qi=a,b,c models=k:5|distinct:x:3 metric=loss:arithmetic limit=0.02
 * and optionally rows=N (the first N rows of the table), first=I (rows I..I+N), subset=N (the first N rows of these are
 * released, all of them are the population), gs=FACTOR, weights=a:2,b:1, response=COLUMN, node=0,1,2 (this node alone),
 * repeats=N (timed runs after as many warm-up runs), exhaustive=1 (every node is checked: how many tie), risk=1 (risk figures of input and output).
 */
public class ArxRun {
    private static final PrintStream OUT = new PrintStream(System.out, true, StandardCharsets.UTF_8);
    private static final Map<String, List<String[]>> TABLES = new HashMap<>();

    public static void main(String[] args) throws Exception {
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        String line;
        while ((line = in.readLine()) != null) {
            if (line.isBlank()) continue;
            Map<String, String> options = new HashMap<>();
            for (String token : line.trim().split(" +")) {
                int at = token.indexOf('=');
                options.put(token.substring(0, at), token.substring(at + 1));
            }
            try {
                run(options);
            } catch (Exception error) {
                OUT.println("{\"id\": \"" + options.get("id") + "\", \"error\": \"" + String.valueOf(error).replace('"', '\'') + "\"}");
            }
        }
    }

    private static List<String[]> table(String path) throws Exception {
        List<String[]> rows = TABLES.get(path);
        if (rows == null) {
            rows = new ArrayList<>();
            try (BufferedReader in = new BufferedReader(new FileReader(path, StandardCharsets.UTF_8))) {
                String line;
                while ((line = in.readLine()) != null) rows.add(line.split(";", -1));
            }
            TABLES.put(path, rows);
        }
        return rows;
    }

    private static Data data(Map<String, String> options) throws Exception {
        List<String[]> rows = table(options.get("table"));
        int first = Integer.parseInt(options.getOrDefault("first", "0"));
        int n = Integer.parseInt(options.getOrDefault("rows", String.valueOf(rows.size() - 1 - first)));
        Data.DefaultData data = Data.create();
        data.add(rows.get(0));
        for (String[] row : rows.subList(1 + first, 1 + first + n)) data.add(row);
        Set<String> quasi = new HashSet<>(Arrays.asList(options.get("qi").split(",")));
        for (String column : rows.get(0)) {
            if (quasi.contains(column)) {
                String[][] hierarchy = hierarchy(options, column);
                data.getDefinition().setAttributeType(column, Hierarchy.create(hierarchy));
            } else {
                data.getDefinition().setAttributeType(column, AttributeType.INSENSITIVE_ATTRIBUTE);
            }
        }
        for (String model : options.get("models").split("\\|")) {
            String[] parts = model.split(":");
            if (parts.length > 1 && Arrays.asList(rows.get(0)).contains(parts[1])) {
                data.getDefinition().setAttributeType(parts[1], AttributeType.SENSITIVE_ATTRIBUTE);
                if (parts[1].equals("age")) data.getDefinition().setDataType(parts[1], DataType.INTEGER);
            }
        }
        if (options.containsKey("node")) {
            String[] columns = options.get("qi").split(","), levels = options.get("node").split(",");
            for (int i = 0; i < columns.length; i++) {
                data.getDefinition().setMinimumGeneralization(columns[i], Integer.parseInt(levels[i]));
                data.getDefinition().setMaximumGeneralization(columns[i], Integer.parseInt(levels[i]));
            }
        }
        if (options.containsKey("response")) data.getDefinition().setResponseVariable(options.get("response"), true);
        return data;
    }

    private static String[][] hierarchy(Map<String, String> options, String column) throws Exception {
        return table(options.get("hierarchies") + File.separator + column + ".csv").toArray(new String[0][]);
    }

    private static DataSubset subset(Map<String, String> options, Data data) {
        Set<Integer> rows = new HashSet<>();
        for (int row = 0; row < Integer.parseInt(options.get("subset")); row++) rows.add(row);
        return DataSubset.create(data, rows);
    }

    private static PrivacyCriterion model(Map<String, String> options, Data data, String text) throws Exception {
        String[] p = text.split(":");
        switch (p[0]) {
        case "k": return new KAnonymity(Integer.parseInt(p[1]));
        case "distinct": return new DistinctLDiversity(p[1], Integer.parseInt(p[2]));
        case "entropy": return new EntropyLDiversity(p[1], Double.parseDouble(p[2]));
        case "grassberger":
            return new EntropyLDiversity(p[1], Double.parseDouble(p[2]), EntropyLDiversity.EntropyEstimator.GRASSBERGER);
        case "recursive": return new RecursiveCLDiversity(p[1], Double.parseDouble(p[2]), Integer.parseInt(p[3]));
        case "t_equal": return new EqualDistanceTCloseness(p[1], Double.parseDouble(p[2]));
        case "t_ordered": return new OrderedDistanceTCloseness(p[1], Double.parseDouble(p[2]));
        case "t_hierarchical":
            return new HierarchicalDistanceTCloseness(p[1], Double.parseDouble(p[2]), Hierarchy.create(hierarchy(options, p[1])));
        case "delta_disclosure": return new DDisclosurePrivacy(p[1], Double.parseDouble(p[2]));
        case "beta_basic": return new BasicBLikeness(p[1], Double.parseDouble(p[2]));
        case "beta_enhanced": return new EnhancedBLikeness(p[1], Double.parseDouble(p[2]));
        case "delta_presence":
            return new DPresence(Double.parseDouble(p[1]), Double.parseDouble(p[2]), subset(options, data));
        case "k_map": return new KMap(Integer.parseInt(p[1]), subset(options, data));
        case "inclusion": return new Inclusion(subset(options, data));
        case "k_map_poisson":
            return new KMap(Integer.parseInt(p[1]), Double.parseDouble(p[2]), ARXPopulationModel.create(Long.parseLong(p[3])));
        case "k_map_zero_truncated":
            return new KMap(Integer.parseInt(p[1]), Double.parseDouble(p[2]), ARXPopulationModel.create(Long.parseLong(p[3])),
                            KMap.CellSizeEstimator.ZERO_TRUNCATED_POISSON);
        case "average_risk": return new AverageReidentificationRisk(Double.parseDouble(p[1]));
        case "average_risk_bounded":
            return new AverageReidentificationRisk(Double.parseDouble(p[1]), Double.parseDouble(p[2]), Double.parseDouble(p[3]));
        case "sample_uniqueness": return new SampleUniqueness(Double.parseDouble(p[1]));
        case "population_uniqueness":
            return new PopulationUniqueness(Double.parseDouble(p[2]), PopulationUniquenessModel.valueOf(p[1].toUpperCase()),
                                            ARXPopulationModel.create(Long.parseLong(p[3])));
        default: throw new IllegalArgumentException("unknown model " + p[0]);
        }
    }

    private static Metric<?> metric(Map<String, String> options) {
        String[] p = options.getOrDefault("metric", "loss:arithmetic").split(":");
        double gs = Double.parseDouble(options.getOrDefault("gs", "0.5"));
        Map<String, AggregateFunction> functions = new HashMap<>();
        functions.put("arithmetic", AggregateFunction.ARITHMETIC_MEAN);
        functions.put("geometric", AggregateFunction.GEOMETRIC_MEAN);
        functions.put("sum", AggregateFunction.SUM);
        functions.put("max", AggregateFunction.MAXIMUM);
        functions.put("rank", AggregateFunction.RANK);
        AggregateFunction function = p.length > 1 ? functions.get(p[1]) : AggregateFunction.ARITHMETIC_MEAN;
        switch (p[0]) {
        case "loss": return Metric.createLossMetric(gs, function);
        case "precision": return Metric.createPrecisionMetric(false, gs, function);
        case "discernibility": return Metric.createDiscernabilityMetric(false);
        case "aecs": return Metric.createAECSMetric(gs);
        case "entropy": return Metric.createEntropyMetric(false, gs, function);
        case "normalised_entropy": return Metric.createNormalizedEntropyMetric(function);
        case "ambiguity": return Metric.createAmbiguityMetric();
        case "kl": return Metric.createKLDivergenceMetric();
        case "classification": return Metric.createClassificationMetric(gs);
        case "height": return Metric.createHeightMetric(function);
        case "entropy_based": return Metric.createEntropyBasedInformationLossMetric(gs);
        default: throw new IllegalArgumentException("unknown metric " + p[0]);
        }
    }

    private static ARXConfiguration configuration(Map<String, String> options, Data data) throws Exception {
        ARXConfiguration config = ARXConfiguration.create();
        for (String text : options.get("models").split("\\|")) config.addPrivacyModel(model(options, data, text));
        config.setSuppressionLimit(Double.parseDouble(options.getOrDefault("limit", "0")));
        config.setQualityModel(metric(options));
        config.setAlgorithm(ARXConfiguration.AnonymizationAlgorithm.OPTIMAL);
        config.setHeuristicSearchThreshold(Integer.MAX_VALUE);
        if (options.containsKey("weights")) {
            for (String pair : options.get("weights").split(",")) {
                String[] p = pair.split(":");
                config.setAttributeWeight(p[0], Double.parseDouble(p[1]));
            }
        }
        return config;
    }

    private static void run(Map<String, String> options) throws Exception {
        Data data = data(options);
        int repeats = Integer.parseInt(options.getOrDefault("repeats", "0"));
        StringBuilder json = new StringBuilder("{\"id\": \"" + options.get("id") + "\"");
        double[] wall = new double[repeats], search = new double[repeats], cpu = new double[repeats];
        for (int i = -repeats; i < repeats; i++) {
            ARXConfiguration config = configuration(options, data);
            long start = System.nanoTime(), startCpu = processCpu();
            ARXResult result = new ARXAnonymizer().anonymize(data, config);
            if (i >= 0) {
                wall[i] = (System.nanoTime() - start) / 1e6;
                cpu[i] = (processCpu() - startCpu) / 1e6;
                search[i] = result.getTime();
            }
            data.getHandle().release();
        }
        ARXConfiguration config = configuration(options, data);
        ARXResult result = new ARXAnonymizer().anonymize(data, config);
        json.append(", \"n_checked\": ").append(result.getProcessStatistics().getTransformationsChecked());
        if (result.isResultAvailable()) {
            ARXNode node = result.getGlobalOptimum();
            List<Integer> levels = new ArrayList<>();
            for (String column : options.get("qi").split(",")) levels.add(node.getGeneralization(column));
            DataHandle output = result.getOutput(false);
            int outliers = 0;
            DataHandle seen = options.containsKey("subset") ? output.getView() : output;
            for (int row = 0; row < seen.getNumRows(); row++) outliers += seen.isOutlier(row) ? 1 : 0;
            json.append(", \"optimal\": ").append(result.getOptimumFound());
            json.append(", \"node\": ").append(levels).append(", \"score\": ").append(number(node.getHighestScore().toString()));
            json.append(", \"suppressed\": ").append(outliers).append(", \"n_rows\": ").append(seen.getNumRows());
            if (options.containsKey("risk")) {
                json.append(", \"risk_input\": ").append(risk(data.getHandle()));
                json.append(", \"risk_output\": ").append(risk(output));
            }
        } else {
            json.append(", \"node\": null");
        }
        data.getHandle().release();
        if (repeats > 0) {
            json.append(", \"search_ms\": ").append(median(search)).append(", \"wall_ms\": ").append(median(wall));
            json.append(", \"cpu_ms\": ").append(median(cpu));
            json.append(", \"search_ms_all\": ").append(Arrays.toString(search));
            json.append(", \"load\": ").append(ManagementFactory.getOperatingSystemMXBean().getSystemLoadAverage());
        }
        if (options.containsKey("exhaustive")) {
            Data fresh = data(options);
            json.append(ArxExhaustive.run(fresh, configuration(options, fresh), options.get("qi").split(",")));
        }
        OUT.println(json.append("}"));
    }

    private static String risk(DataHandle handle) {
        StringBuilder json = new StringBuilder("{");
        RiskEstimateBuilder plain = handle.getRiskEstimator();
        RiskModelSampleRisks sample = plain.getSampleBasedReidentificationRisk();
        json.append("\"average\": ").append(sample.getAverageRisk()).append(", \"highest\": ").append(sample.getHighestRisk());
        json.append(", \"lowest\": ").append(sample.getLowestRisk());
        json.append(", \"records_affected_by_highest\": ").append(sample.getFractionOfRecordsAffectedByHighestRisk());
        json.append(", \"prosecutor\": ").append(sample.getEstimatedProsecutorRisk());
        json.append(", \"journalist\": ").append(sample.getEstimatedJournalistRisk());
        json.append(", \"marketer\": ").append(sample.getEstimatedMarketerRisk());
        json.append(", \"n_classes\": ").append(plain.getEquivalenceClassModel().getNumClasses());
        json.append(", \"n_records\": ").append(plain.getEquivalenceClassModel().getNumRecords());
        json.append(", \"sample_uniques\": ").append(plain.getSampleBasedUniquenessRisk().getNumUniqueRecords());
        json.append(", \"sample_uniqueness\": ").append(plain.getSampleBasedUniquenessRisk().getFractionOfUniqueRecords());
        json.append(", \"summary\": {");
        String comma = "";
        for (double threshold : new double[] {0.05, 0.09, 0.2, 0.33}) {
            RiskModelSampleSummary s = plain.getSampleBasedRiskSummary(threshold);
            json.append(comma).append("\"").append(threshold).append("\": {\"prosecutor\": [");
            json.append(s.getProsecutorRisk().getRecordsAtRisk()).append(", ").append(s.getProsecutorRisk().getHighestRisk());
            json.append(", ").append(s.getProsecutorRisk().getSuccessRate()).append("], \"journalist\": [");
            json.append(s.getJournalistRisk().getRecordsAtRisk()).append(", ").append(s.getJournalistRisk().getHighestRisk());
            json.append(", ").append(s.getJournalistRisk().getSuccessRate()).append("], \"marketer\": ");
            json.append(s.getMarketerRisk().getSuccessRate()).append("}");
            comma = ", ";
        }
        json.append("}, \"population\": {");
        comma = "";
        for (double fraction : new double[] {1.0, 0.9, 0.5, 0.2, 0.1, 0.05, 0.01}) {
            ARXPopulationModel population = ARXPopulationModel.create(handle.getNumRows(), fraction);
            RiskModelPopulationUniqueness model = handle.getRiskEstimator(population).getPopulationBasedUniquenessRisk();
            json.append(comma).append("\"").append(fraction).append("\": {\"population_size\": ").append(population.getPopulationSize());
            for (PopulationUniquenessModel kind : PopulationUniquenessModel.values()) {
                if (kind == PopulationUniquenessModel.DANKAR) {
                    json.append(", \"dankar\": ").append(number(model.getFractionOfUniqueTuplesDankar()));
                    RiskModelPopulationUniqueness fresh = handle.getRiskEstimator(population).getPopulationBasedUniquenessRisk();
                    json.append(", \"dankar_no_fallback\": ").append(number(fresh.getFractionOfUniqueTuplesDankar(false)));
                } else {
                    json.append(", \"").append(kind.name().toLowerCase()).append("\": ");
                    json.append(model.isAvailableEstimate(kind) ? number(model.getFractionOfUniqueTuples(kind)) : "null");
                }
            }
            json.append(", \"used\": \"").append(model.getPopulationUniquenessModel()).append("\"}");
            comma = ", ";
        }
        return json.append("}}").toString();
    }

    private static String number(Object value) {
        String text = String.valueOf(value);
        return text.equals("NaN") || text.endsWith("Infinity") ? "\"" + text + "\"" : text;
    }

    private static long processCpu() {
        return ((com.sun.management.OperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean()).getProcessCpuTime();
    }

    private static double median(double[] values) {
        double[] sorted = values.clone();
        Arrays.sort(sorted);
        return sorted[sorted.length / 2];
    }
}
