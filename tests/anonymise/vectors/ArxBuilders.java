// Writes what ARX's hierarchy builders make of a few values, as JSON: the source of arx_builders.json.
//   javac -cp ARX.jar ArxBuilders.java && java -cp ARX.jar:. ArxBuilders
// It prints one row per value; the file holds their columns, one per level. Weeks are left out: ARX counts ISO weeks but
// prints the calendar year, so that 2000-01-02 (week 52 of 1999) joins the last week of 2000.
import java.util.*;
import org.deidentifier.arx.*;
import org.deidentifier.arx.AttributeType.Hierarchy;
import org.deidentifier.arx.aggregates.*;
import org.deidentifier.arx.aggregates.HierarchyBuilderIntervalBased.Range;
import org.deidentifier.arx.aggregates.HierarchyBuilderRedactionBased.Order;
import org.deidentifier.arx.aggregates.HierarchyBuilderDate.Granularity;
public class ArxBuilders {
  static boolean first = true;
  static String q(String s){ return "\"" + s.replace("\\","\\\\").replace("\"","\\\"") + "\""; }
  static void put(String name, String[] data, Hierarchy h){
    StringBuilder b = new StringBuilder(first ? "" : ",\n"); first=false;
    b.append(q(name)).append(": [");
    String[][] r = h.getHierarchy();
    Map<String,String[]> m = new HashMap<>(); for (String[] row : r) m.put(row[0], row);
    for (int i=0;i<data.length;i++){ b.append(i==0?"":", ").append("["); String[] row=m.get(data[i]); for(int j=0;j<row.length;j++) b.append(j==0?"":", ").append(q(row[j])); b.append("]"); }
    b.append("]"); System.out.print(b);
  }
  static String[] ints(int lo,int hi){ String[] d=new String[hi-lo+1]; for(int i=lo;i<=hi;i++) d[i-lo]=""+i; return d; }
  static HierarchyBuilderIntervalBased<Long> iv(long lo,long loMin,long hi,long hiMax){
    HierarchyBuilderIntervalBased<Long> b = HierarchyBuilderIntervalBased.create(DataType.INTEGER,new Range<Long>(lo,lo,loMin),new Range<Long>(hi,hi,hiMax));
    b.setAggregateFunction(DataType.INTEGER.createAggregate().createIntervalFunction(true,false)); return b; }
  public static void main(String[] a) throws Exception {
    System.out.println("{");
    HierarchyBuilderIntervalBased<Long> b = iv(0,0,100,101);
    b.addInterval(0l,5l); b.getLevel(0).addGroup(2); b.getLevel(1).addGroup(2); b.prepare(ints(0,99)); put("interval 5 10 20", ints(0,99), b.build());
    b = iv(18,0,90,111); b.addInterval(18l,24l); b.getLevel(0).addGroup(2); b.getLevel(1).addGroup(2); b.prepare(ints(0,110)); put("interval 6 12 24 bottom 18 top 90", ints(0,110), b.build());
    b = iv(0,0,99,100); b.addInterval(0l,18l); b.addInterval(18l,40l); b.addInterval(40l,65l); b.addInterval(65l,99l); b.prepare(ints(0,98)); put("cuts 18 40 65", ints(0,98), b.build());
    String[] st={"I","II","III","IV","V","VI","VII"};
    HierarchyBuilderOrderBased<String> o = HierarchyBuilderOrderBased.create(DataType.createOrderedString(st), st);
    o.setAggregateFunction(DataType.createOrderedString(st).createAggregate().createIntervalFunction(true,true));
    o.getLevel(0).addGroup(2); o.getLevel(0).addGroup(3); o.getLevel(0).addGroup(1); o.getLevel(0).addGroup(1);
    o.getLevel(1).addGroup(2); o.getLevel(1).addGroup(2); o.prepare(st); put("order 2 3 1 1, 2 2", st, o.build());
    o = HierarchyBuilderOrderBased.create(DataType.createOrderedString(st), st);
    o.setAggregateFunction(DataType.createOrderedString(st).createAggregate().createIntervalFunction(true,true));
    o.getLevel(0).addGroup(2); o.getLevel(1).addGroup(2); o.prepare(st); put("order each 2, each 2", st, o.build());
    String[] codes={"1010","1020","99","123456","7"};
    for (Order al : new Order[]{Order.LEFT_TO_RIGHT, Order.RIGHT_TO_LEFT}) for (Order re : new Order[]{Order.LEFT_TO_RIGHT, Order.RIGHT_TO_LEFT}) {
      HierarchyBuilderRedactionBased<?> r = HierarchyBuilderRedactionBased.create(al, re, '0', '*'); r.prepare(codes);
      put("redact align " + (al==Order.LEFT_TO_RIGHT?"left":"right") + " side " + (re==Order.LEFT_TO_RIGHT?"left":"right"), codes, r.build()); }
    List<String> days=new ArrayList<>(); java.time.LocalDate d=java.time.LocalDate.of(1998,12,20); while(d.isBefore(java.time.LocalDate.of(2001,1,20))){days.add(d.toString()); d=d.plusDays(9);} 
    String[] dd=days.toArray(new String[0]);
    for (Granularity[] g : new Granularity[][]{{Granularity.MONTH_YEAR,Granularity.QUARTER_YEAR,Granularity.YEAR,Granularity.DECADE,Granularity.CENTURY},{Granularity.WEEK_YEAR}}) {
      HierarchyBuilderDate h = HierarchyBuilderDate.create(DataType.createDate("yyyy-MM-dd"), TimeZone.getTimeZone("UTC"), new HierarchyBuilderDate.Format(), g); h.prepare(dd); put(g.length==1?"date week":"date month quarter year decade century", dd, h.build()); }
    System.out.println("\n}");
  }
}
